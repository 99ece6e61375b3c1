"""What is trained, and one optimisation step of it."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from noisyvos.devices import half_precision
from noisyvos.methods.base import Method
from noisyvos.models.base import Clip, ClipOutput, VideoModel, resized_output
from noisyvos.models.weights import load_strictly
from noisyvos.seeding import torch_generator
from noisyvos.training.distributed import ALONE, Group, contact, data_parallel
from noisyvos.training.optimizers import make_optimizers, set_learning_rate, trained_parameters
from noisyvos.training.schedule import Schedule, learning_rate

PERTURBATION = 0.01  # share of each weight by which two networks that start alike are set apart


@dataclass(frozen=True)
class StepResult:
    """What one step computed on this process's samples, on the device, without gradients."""

    loss: Tensor  # what was minimised
    terms: dict[str, Any]  # the method's terms and the networks' auxiliary losses
    output: ClipOutput  # of the first network
    teacher: ClipOutput | None
    peer: ClipOutput | None = None  # of the second network, if two are trained
    norm: float = 0.0  # of the whole batch's gradient, before clipping


class TrainingPass(nn.Module):
    """The trained networks and the method's learned scalars; the forward pass returns the loss.

    It is one module so that one DistributedDataParallel can wrap all that is trained. Do not call
    its `train`: batch normalisation stays in evaluation mode.
    """

    method: Method
    seed: int
    trained: tuple[VideoModel, ...]  # those of `networks`, with their type

    def __init__(self, networks: list[VideoModel], method: Method, seed: int) -> None:
        super().__init__()
        self.networks, self.trained = nn.ModuleList(networks), tuple(networks)
        self.scalars = nn.ParameterList(method.parameters())
        self.method, self.seed = method, seed

    def forward(
        self, clip: Clip, teacher: ClipOutput | None, iteration: int
    ) -> tuple[Tensor, StepResult]:
        """Return the loss of a batch (or of a part of it), and what else was computed.

        The random choices of each network's pass follow from (seed, iteration).
        """
        key = (self.seed, iteration)
        outputs: list[ClipOutput] = [
            network.forward_clip(clip, generator=torch_generator("pass", *key, index))
            for index, network in enumerate(self.trained)
        ]
        size = (clip.frames.shape[-2], clip.frames.shape[-1])
        for view in self.method.views(clip, seed=self.seed, iteration=iteration):
            other = self.trained[0].forward_clip(view, generator=torch_generator("pass", *key, 0))
            outputs.append(resized_output(other, size))
        terms = dict(self.method.clip_loss(outputs, clip, teacher=teacher, iteration=iteration))
        loss = terms.pop("total")
        for output in outputs:
            for name, value in output.auxiliary.items():
                loss = loss + value
                terms[name] = terms[name] + value if name in terms else value
        # Only the loss keeps its graph: DistributedDataParallel takes a parameter that any
        # output depends on for one that gets a gradient.
        return loss, StepResult(
            loss.detach(),
            {name: _detached(value) for name, value in terms.items()},
            _without_gradient(outputs[0]),
            teacher,
            _without_gradient(outputs[1]) if len(self.networks) > 1 else None,
        )


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _without_gradient(output: ClipOutput) -> ClipOutput:
    return ClipOutput(
        tuple(logits.detach() for logits in output.logits),
        {name: value.detach() for name, value in output.auxiliary.items()},
    )


@dataclass
class Learner:
    """Everything that changes while training, on one device."""

    networks: list[VideoModel]
    teacher: VideoModel | None
    method: Method
    schedule: Schedule
    seed: int
    device: torch.device
    group: Group = ALONE
    weights: list[nn.Parameter] = field(init=False)  # trained parameters of the networks
    optimizers: list[torch.optim.Optimizer] = field(init=False)  # the networks', the method's last
    scaler: torch.amp.GradScaler = field(init=False)
    half: torch.dtype | None = field(init=False)  # of convolutions and products; None: float32
    teacher_half: torch.dtype | None = field(init=False)  # the same of the teacher
    alone: TrainingPass = field(init=False)  # without communication
    shared: DistributedDataParallel | None = field(init=False)  # the same, for several processes

    def __post_init__(self) -> None:
        schedule = self.schedule
        self.half = half_precision(schedule.amp, self.device)
        self.teacher_half = _teacher_precision(schedule, self.device)
        chosen = [
            each
            for network in self.networks
            for each in trained_parameters(network, schedule.groups, schedule.weight_decay)
        ]
        self.weights = [parameter for parameter, _, _ in chosen]
        rates = (schedule.momentum, schedule.muon_rate)
        self.optimizers = make_optimizers(schedule.optimizer, chosen, *rates)
        own = self.method.parameters()
        if own:
            self.optimizers += make_optimizers("adam", [(scalar, 1.0, 0.0) for scalar in own])
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.half is torch.float16)
        self.alone = TrainingPass(self.networks, self.method, self.seed)
        self.shared = data_parallel(self.alone) if self.group.size > 1 else None

    def set_learning_rates(self, iteration: int) -> None:
        """Give the optimisers the learning rates of `iteration`."""
        rate, own = learning_rate(self.schedule, iteration), self.method.scalar_learning_rate
        scalars = bool(self.method.parameters())
        for index, optimizer in enumerate(self.optimizers, 1):
            is_methods = scalars and index == len(self.optimizers)
            set_learning_rate(optimizer, own or rate if is_methods else rate)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: all but the teacher, which training started from."""
        return {
            "networks": [network.state_dict() for network in self.networks],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "method": self.method.state_dict(),
            "method parameters": [parameter.detach() for parameter in self.method.parameters()],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        for network, weights in zip(self.networks, state["networks"], strict=True):
            load_strictly(network, weights, "the checkpoint")
        for optimizer, moments in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(moments)
        self.scaler.load_state_dict(state["scaler"])
        self.method.load_state_dict(state["method"])
        with torch.no_grad():
            for parameter, value in zip(
                self.method.parameters(), state["method parameters"], strict=True
            ):
                parameter.copy_(value)


def make_learner(
    model: VideoModel,
    method: Method,
    schedule: Schedule,
    seed: int,
    device: torch.device,
    group: Group = ALONE,
) -> Learner:
    """Return a learner that starts from `model`.

    The teacher is a frozen copy. On a GPU and in half precision it has the form for inference, with
    its weights converted once. Two trained networks are copies, each perturbed in its own way.
    """
    model = model.to(device)
    teacher = None
    if method.teacher:
        teacher = copy.deepcopy(model).eval().requires_grad_(False)
        half = _teacher_precision(schedule, device)
        # in float32 on a CPU, Winograd's algorithm loses time on small crops
        if half is not None or device.type != "cpu":
            teacher = teacher.for_inference(half)
    networks = [model] + [copy.deepcopy(model) for _ in range(method.networks - 1)]
    if len(networks) > 1:
        for index, network in enumerate(networks):
            _perturb(network, seed, index)
    for network in networks:
        _training_mode(network)
    for parameter in method.parameters():
        parameter.data = parameter.data.to(device)
    return Learner(networks, teacher, method, schedule, seed, device, group)


def _teacher_precision(schedule: Schedule, device: torch.device) -> torch.dtype | None:
    """Return the half precision of the teacher, None for float32; it gets no gradient."""
    if schedule.teacher_amp is None:
        return half_precision(schedule.amp, device)
    return half_precision(schedule.teacher_amp, device, inference=True)


@torch.no_grad()
def _perturb(network: nn.Module, seed: int, index: int) -> None:
    for name, weight in network.named_parameters():
        noise = torch.randn(weight.shape, generator=torch_generator("perturb", seed, index, name))
        weight.add_(PERTURBATION * weight.abs() * noise.to(weight.device))


def _training_mode(network: nn.Module) -> None:
    """Switch to training, except batch normalisation: batches are too small for its statistics."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def take_step(learner: Learner, clip: Clip, iteration: int) -> StepResult:
    """Train on one batch, of which `clip` holds this process's samples.

    The update is that of the whole batch. With `parts` in the schedule, the samples pass through
    the networks in so many pieces, whose gradients add up.
    """
    learner.set_learning_rates(iteration)
    # `zero_grad` walks the modules first, which takes 3 % of a step of the demo's network
    for weight in learner.weights + learner.method.parameters():
        weight.grad = None
    learner.method.from_all = learner.group.all_gather
    with contact() if learner.group.size > 1 else nullcontext():
        result = add_gradients(learner, clip, iteration)
    learner.method.end_step()
    found = [weight.grad for weight in learner.weights if weight.grad is not None]
    for optimizer in learner.optimizers[: -1 if learner.method.parameters() else None]:
        learner.scaler.unscale_(optimizer)
    norm = nn.utils.get_total_norm(found)
    if learner.schedule.gradient_clip is not None:
        nn.utils.clip_grads_with_norm_(learner.weights, learner.schedule.gradient_clip, norm)
    for optimizer in learner.optimizers:
        learner.scaler.step(optimizer)
    learner.scaler.update()
    return replace(result, norm=float(norm))


def add_gradients(learner: Learner, clip: Clip, iteration: int) -> StepResult:
    """Add the gradients of a batch to those of the parameters, summed over all processes."""
    size = learner.schedule.batch // learner.schedule.parts
    pieces = (
        [clip]
        if len(clip.frames) <= size
        else [clip.rows(first, size) for first in range(0, len(clip.frames), size)]
    )
    shared = learner.shared
    results = []
    for index, piece in enumerate(pieces, 1):
        # Processes exchange gradients once, while the last piece's are computed.
        keep: Callable[[], AbstractContextManager[None]] = (
            nullcontext if shared is None or index == len(pieces) else shared.no_sync
        )
        with keep():
            results.append(_pass(learner, piece, iteration))
    return _joined(results)


def _pass(learner: Learner, clip: Clip, iteration: int) -> StepResult:
    """Add the gradients of a batch or a part of it, weighted by its share of the whole batch."""
    with _autocast(learner.device, learner.half):
        teacher = None if learner.teacher is None else _ask(learner, clip, iteration)
        loss, result = (learner.shared or learner.alone)(clip, teacher, iteration)
    learner.scaler.scale(loss * (len(clip.frames) / clip.place()[1])).backward()
    return result


def _autocast(device: torch.device, half: torch.dtype | None) -> torch.autocast:
    return torch.autocast(device.type, dtype=half, enabled=half is not None)


def _ask(learner: Learner, clip: Clip, iteration: int) -> ClipOutput:
    """Return what the teacher says of a clip, without anything that a gradient would need."""
    assert learner.teacher is not None
    generator = torch_generator("teacher", learner.seed, iteration)
    with torch.inference_mode(), _autocast(learner.device, learner.teacher_half):
        output = learner.teacher.forward_clip(clip, generator=generator)
    # Copies are ordinary tensors, which any loss may use. A loss in float32 gets float32.
    kept = torch.float32 if learner.half is None else None
    return ClipOutput(tuple(each.to(kept, copy=True) for each in output.logits))


def _joined(parts: list[StepResult]) -> StepResult:
    """Return the results of pieces of a batch as one: rows concatenated, all else averaged."""
    if len(parts) == 1:
        return parts[0]
    counts = [len(part.output.logits[0]) for part in parts]

    def mean(values: list[Any]) -> Any:
        return sum(value * count for value, count in zip(values, counts, strict=True)) / sum(counts)

    def term(values: list[Any]) -> Any:
        if isinstance(values[0], Tensor) and values[0].ndim:
            return torch.cat(values)
        return mean(values)

    def output(outputs: list[ClipOutput | None]) -> ClipOutput | None:
        found = [one for one in outputs if one is not None]
        if not found:
            return None
        logits = zip(*(one.logits for one in found), strict=True)
        return ClipOutput(
            tuple(torch.cat(frame) for frame in logits),
            {name: mean([one.auxiliary[name] for one in found]) for name in found[0].auxiliary},
        )

    first = output([part.output for part in parts])
    assert first is not None
    return StepResult(
        mean([part.loss for part in parts]),
        {name: term([part.terms[name] for part in parts]) for name in parts[0].terms},
        first,
        output([part.teacher for part in parts]),
        output([part.peer for part in parts]),
    )


def as_floats(result: StepResult, share: float = 1.0, group: Group = ALONE) -> dict[str, float]:
    """Return the `loss` that was minimised and the mean of every term over the batch.

    share: this process's share of the batch's samples.
    """
    found = {"loss": result.loss, **result.terms}
    on_device = {
        name: value.detach().float().mean()
        for name, value in found.items()
        if isinstance(value, Tensor)
    }
    # The host waits for all of them at once.
    fetched = torch.stack([*on_device.values()]).tolist()
    values = {name: float(value) for name, value in found.items() if name not in on_device}
    values = {**values, **dict(zip(on_device, fetched, strict=True))}
    values = {name: values[name] for name in found}
    if group.size == 1:
        return values
    sums = group.all_reduce([value * share for value in values.values()])
    return dict(zip(values, sums, strict=True))
