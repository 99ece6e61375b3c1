"""Networks and methods small enough to see through, and a training of them in one call."""

import torch
from torch import nn
from training_world import SCHEDULE

from noisyvos.methods.base import Method
from noisyvos.models.base import Clip, ClipOutput
from noisyvos.registry import Settings
from noisyvos.training import loop
from noisyvos.training.schedule import Schedule
from noisyvos.training.step import make_learner

CPU = torch.device("cpu")


class ToyNetwork(nn.Module):
    """One convolution with batch normalisation; `factor` may spoil its logits."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.factor = factor
        self.norm = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.draws: list[float] = []

    def forward_clip(self, clip: Clip, *, generator: torch.Generator) -> ClipOutput:
        self.draws.append(float(torch.rand((), generator=generator)))
        logits = tuple(
            self.conv(self.norm(clip.frames[:, t])) * self.factor
            for t in range(1, clip.frames.shape[1])
        )
        return ClipOutput(logits, {"own": self.conv.bias.square().sum()})


class ToyMethod(Method):
    """Cross-entropy, with a learned scalar that a resumed training must find again."""

    def __init__(self) -> None:
        super().__init__(Settings(), None)
        self.scalar = nn.Parameter(torch.zeros(()))

    def terms(self, logits, target, *, num_objects, teacher_logits=None, iteration=0):
        total = (
            nn.functional.cross_entropy(logits, target, ignore_index=255)
            + (self.scalar - 1).square()
        )
        if teacher_logits is not None:
            total = (
                total + 0 * (logits * teacher_logits).sum()
            )  # a product keeps both factors for the gradient
        return {"total": total, "ce": total.detach().repeat(len(target))}

    def parameters(self):
        return [self.scalar]


class ToyOwnRateMethod(ToyMethod):
    scalar_learning_rate = 0.25


class ToyTeacherMethod(ToyMethod):
    teacher = True


class ToyPairMethod(ToyMethod):
    networks = 2


def schedule(**changes) -> Schedule:
    return Schedule(**(SCHEDULE | changes))


def run(source, tmp_path, method=None, network=None, fingerprint="a", **changes):
    learner = make_learner(
        network or ToyNetwork(), method or ToyMethod(), schedule(**changes), 0, CPU
    )
    curve, _ = loop.train(
        learner,
        source,
        name="toy",
        file=tmp_path / "checkpoint.pt",
        fingerprint=fingerprint,
        watch=lambda row, step: None,
    )
    return learner, curve
