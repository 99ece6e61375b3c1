"""What is trained, and one optimisation step of it: networks, teacher, method, optimiser and loss scaling."""

import copy
import re
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from noisyvos.devices import half_precision
from noisyvos.errors import UserError
from noisyvos.methods.base import Method
from noisyvos.models.base import Clip, ClipOutput, VideoModel, resized_output
from noisyvos.seeding import torch_generator
from noisyvos.training.group import ALONE, Group
from noisyvos.training.optimizer import SGD, Adam, Optimizer, Pace
from noisyvos.training.schedule import Schedule, learning_rate

PERTURBATION = 0.01  # share of each weight by which two networks that start alike are set apart


@dataclass
class Learner:
    """Everything that changes while training, on one device."""

    networks: list[VideoModel]
    teacher: VideoModel | None
    method: Method
    schedule: Schedule
    seed: int
    device: torch.device
    optimizers: list[Optimizer] = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)
    half: torch.dtype | None = field(
        init=False
    )  # what convolutions and products are computed in; None: float32

    def __post_init__(self) -> None:
        self.half = half_precision(self.schedule.amp, self.device)
        paces = [pace for network in self.networks for pace in _paces(network, self.schedule)]
        self.weights = [weight for weight, _ in paces]
        self.optimizers = [_optimizer(self.weights, [pace for _, pace in paces], self.schedule)]
        own = self.method.parameters()
        if own:
            self.optimizers.append(Adam(own, kind="adam", paces=[Pace()] * len(own)))
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.half is torch.float16)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps; the teacher is what training started from and is not among it."""
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
            network.load_state_dict(weights)
        for optimizer, moments in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(moments)
        self.scaler.load_state_dict(state["scaler"])
        self.method.load_state_dict(state["method"])
        with torch.no_grad():
            for parameter, value in zip(
                self.method.parameters(), state["method parameters"], strict=True
            ):
                parameter.copy_(value)


def _optimizer(weights: list[torch.Tensor], paces: list[Pace], schedule: Schedule) -> Optimizer:
    if schedule.optimizer == "sgd":
        return SGD(weights, momentum=schedule.momentum, paces=paces)
    return Adam(weights, kind=schedule.optimizer, paces=paces)


def _paces(network: nn.Module, schedule: Schedule) -> list[tuple[torch.Tensor, Pace]]:
    """Return the weights of a network that learn, each with its pace; those with rate 0 are frozen here. UserError for a useless group."""
    chosen: dict[int, list[str]] = {index: [] for index in range(len(schedule.groups))}
    found = []
    for name, weight in network.named_parameters():
        pace = Pace(1.0, schedule.weight_decay)
        for index, group in enumerate(schedule.groups):
            if re.search(group.match, name):
                chosen[index].append(name)
                pace = Pace(
                    group.rate,
                    schedule.weight_decay if group.weight_decay is None else group.weight_decay,
                )
                break
        weight.requires_grad_(weight.requires_grad and pace.rate > 0)
        if weight.requires_grad:
            found.append((weight, pace))
    for index, names in chosen.items():
        if not names:
            examples = ", ".join(
                [name for name, _ in network.named_parameters()][
                    :: max(1, len(list(network.parameters())) // 4)
                ]
            )
            raise UserError(
                f"train.yaml: groups: {schedule.groups[index].match!r} chooses no weight of this network that an earlier group left. "
                f"Names are like {examples}."
            )
    if not found:
        raise UserError(
            "train.yaml: groups: every weight is frozen (`rate: 0`), so there is nothing to train."
        )
    return found


def make_learner(
    model: VideoModel, method: Method, schedule: Schedule, seed: int, device: torch.device
) -> Learner:
    """Return a learner that starts from `model`: the teacher is a frozen copy, a second trained network a perturbed one."""
    model = model.to(device)
    teacher = None
    if method.teacher:
        teacher = copy.deepcopy(model).eval().requires_grad_(False)
    networks = [model] + [copy.deepcopy(model) for _ in range(method.networks - 1)]
    if len(networks) > 1:
        for index, network in enumerate(networks):
            _perturb(network, seed, index)
    for network in networks:
        _training_mode(network)
    for parameter in method.parameters():
        parameter.data = parameter.data.to(device)
    return Learner(networks, teacher, method, schedule, seed, device)


@torch.no_grad()
def _perturb(network: nn.Module, seed: int, index: int) -> None:
    for name, weight in network.named_parameters():
        noise = torch.randn(weight.shape, generator=torch_generator("perturb", seed, index, name))
        weight.add_(PERTURBATION * weight.abs() * noise.to(weight.device))


def _training_mode(network: nn.Module) -> None:
    """Switch to training, but keep the running statistics of batch normalisation: batches are too small to renew them."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


@dataclass(frozen=True)
class StepResult:
    """What one step computed, still on the device; of several processes, on this one's samples."""

    loss: torch.Tensor  # what was minimised
    terms: dict[str, Any]  # the method's terms and the networks' auxiliary losses
    output: ClipOutput  # of the first network
    teacher: ClipOutput | None
    peer: ClipOutput | None = None  # of the second network, where there is one
    norm: float = 0.0  # of the whole batch's gradient, before clipping


def take_step(learner: Learner, clip: Clip, iteration: int, group: Group = ALONE) -> StepResult:
    """Train on one batch, in pieces where the schedule has parts; random choices of each network's pass follow from (seed, iteration).

    clip: this process's samples of the batch. The update is that of the whole batch.
    """
    rate = learning_rate(learner.schedule, iteration)
    for optimizer, own in zip(learner.optimizers, (None, learner.method.scalar_learning_rate)):
        optimizer.rate = own or rate
        optimizer.zero_grad()
    size = learner.schedule.batch // learner.schedule.parts
    pieces = (
        [clip]
        if len(clip.frames) <= size
        else [clip.rows(first, size) for first in range(0, len(clip.frames), size)]
    )
    learner.method.from_all = group.from_all
    result = _joined([_pass(learner, piece, iteration) for piece in pieces])
    learner.method.end_step()
    group.add_gradients([*learner.weights, *learner.method.parameters()])
    learner.scaler.unscale_(learner.optimizers[0])
    norm = nn.utils.get_total_norm(
        [weight.grad for weight in learner.weights if weight.grad is not None]
    )
    if learner.schedule.gradient_clip is not None:
        nn.utils.clip_grads_with_norm_(learner.weights, learner.schedule.gradient_clip, norm)
    for optimizer in learner.optimizers:
        learner.scaler.step(optimizer)
    learner.scaler.update()
    return replace(result, norm=float(norm))


def _pass(learner: Learner, clip: Clip, iteration: int) -> StepResult:
    """Run all networks on a batch or a part of it and add its share of the gradients."""
    key = (learner.seed, iteration)
    with torch.autocast(learner.device.type, dtype=learner.half, enabled=learner.half is not None):
        guess = (
            None
            if learner.teacher is None
            else _ask(learner.teacher, clip, torch_generator("teacher", *key))
        )
        outputs = [
            network.forward_clip(clip, generator=torch_generator("pass", *key, index))
            for index, network in enumerate(learner.networks)
        ]
        for view in learner.method.views(clip, seed=learner.seed, iteration=iteration):
            other = learner.networks[0].forward_clip(
                view, generator=torch_generator("pass", *key, 0)
            )
            outputs.append(resized_output(other, (clip.frames.shape[-2], clip.frames.shape[-1])))
        terms = dict(learner.method.clip_loss(outputs, clip, teacher=guess, iteration=iteration))
        loss = terms.pop("total")
        for output in outputs:
            for name, value in output.auxiliary.items():
                loss = loss + value
                terms[name] = terms[name] + value if name in terms else value
    learner.scaler.scale(loss * (len(clip.frames) / clip.place()[1])).backward()
    return StepResult(
        loss.detach(), terms, outputs[0], guess, outputs[1] if len(learner.networks) > 1 else None
    )


def _ask(teacher: VideoModel, clip: Clip, generator: torch.Generator) -> ClipOutput:
    """Return what the teacher says of a clip, without anything that a gradient would need."""
    with torch.inference_mode():
        output = teacher.forward_clip(clip, generator=generator)
    return ClipOutput(
        tuple(each.clone() for each in output.logits)
    )  # copies are ordinary tensors, which any loss may use


def _joined(parts: list[StepResult]) -> StepResult:
    """Return the results of pieces of a batch as one: rows one after the other, means over the samples of all else."""
    if len(parts) == 1:
        return parts[0]
    counts = [len(part.output.logits[0]) for part in parts]

    def mean(values: list[Any]) -> Any:
        return sum(value * count for value, count in zip(values, counts, strict=True)) / sum(counts)

    def term(values: list[Any]) -> Any:
        return (
            torch.cat(values)
            if isinstance(values[0], torch.Tensor) and values[0].ndim
            else mean(values)
        )

    def output(outputs: list[ClipOutput]) -> ClipOutput:
        logits = tuple(
            torch.cat([each.detach() for each in frame])
            for frame in zip(*(one.logits for one in outputs), strict=True)
        )
        return ClipOutput(
            logits,
            {name: mean([one.auxiliary[name] for one in outputs]) for name in outputs[0].auxiliary},
        )

    return StepResult(
        mean([part.loss for part in parts]),
        {name: term([part.terms[name] for part in parts]) for name in parts[0].terms},
        output([part.output for part in parts]),
        None if parts[0].teacher is None else output([part.teacher for part in parts]),
        None if parts[0].peer is None else output([part.peer for part in parts]),
    )


def as_floats(result: StepResult, share: float = 1.0, group: Group = ALONE) -> dict[str, float]:
    """Return what was minimised (`loss`) and the mean of every term over the batch, of which `share` is this process's."""
    values = {"loss": float(result.loss)}
    for name, value in result.terms.items():
        values[name] = (
            float(value.detach().float().mean())
            if isinstance(value, torch.Tensor)
            else float(value)
        )
    if group.size == 1:
        return values
    return dict(zip(values, group.sums([value * share for value in values.values()]), strict=True))
