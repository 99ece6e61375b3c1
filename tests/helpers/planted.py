"""Clips with planted wrong labels.

And the smallest network that first learns what is general and then learns by heart.

Its logits are linear in a pixel's colours, which tell object and background apart up to noise, plus
a number of its own for every pixel. Descent moves what all pixels share first (their gradients add
up) and memorises single pixels later, as deep networks do.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noisyvos import methods
from noisyvos.models.base import Clip, ClipOutput, Origin, VideoModel
from noisyvos.registry import Settings
from noisyvos.training.optimizers import make_optimizers
from noisyvos.training.schedule import Schedule
from noisyvos.training.step import Learner, make_learner, take_step

SAMPLES, HEIGHT, WIDTH = 4, 24, 32
# of what is learned by heart: plain cross-entropy knows nearly all wrong labels after 100 steps
SHARE = 6.0
COLOURS = torch.tensor([[0.35, 0.5, 0.6], [0.65, 0.5, 0.4]])  # of background and object


class ByHeart(VideoModel):
    """The network: `share` is how much the numbers of single pixels count."""

    memory_settings = Settings

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.colours = nn.Parameter(
            0.01 * torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
        )
        self.bias = nn.Parameter(torch.zeros(2))
        self.pixels = nn.Parameter(torch.zeros(SAMPLES, 2, HEIGHT, WIDTH))

    def forward_clip(self, clip: Clip, *, generator: torch.Generator) -> ClipOutput:
        frames = clip.frames[:, 1]
        own = self.pixels[[int(key[1]) for key in clip.keys]]
        if own.shape[-2:] != frames.shape[-2:]:
            own = nn.functional.interpolate(
                own, frames.shape[-2:], mode="bilinear", align_corners=False
            )
        linear = torch.einsum("kc,bchw->bkhw", self.colours, 5 * (frames - 0.5)) + self.bias.view(
            2, 1, 1
        )
        return ClipOutput((linear + self.share * own,))

    def session(self, *, channels, memory, length):
        raise NotImplementedError


def descent(weights: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
    """Return plain gradient descent, with which large and small gradients keep their sizes."""
    return make_optimizers("sgd", [(weight, 1.0, 0.0) for weight in weights])


def true_labels() -> Tensor:
    """Return one disc a sample, (B, H, W) int64."""
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    discs = [(y - 11) ** 2 + (x - 10 - 4 * sample) ** 2 < 49 for sample in range(SAMPLES)]
    return torch.stack(discs).long()


def salt(clean: Tensor) -> Tensor:
    """Return labels of which one in five pixels is wrong, in no order."""
    wrong = torch.rand(clean.shape, generator=torch.Generator().manual_seed(1)) < 0.2
    return torch.where(wrong, 1 - clean, clean)


def grown(clean: Tensor) -> Tensor:
    """Return objects that reach two pixels too far."""
    return nn.functional.max_pool2d(clean[:, None].float(), 5, 1, 2)[:, 0].long()


def shrunk(clean: Tensor) -> Tensor:
    """Return objects that end two pixels early."""
    return 1 - grown(1 - clean)


def one_inverted(clean: Tensor) -> Tensor:
    """Return labels of which those of the last sample are all wrong."""
    return torch.cat([clean[:-1], 1 - clean[-1:]])


def planted(noise) -> Clip:
    """Return a batch of two-frame clips whose labels are `noise` of the true ones."""
    clean = true_labels()
    pictures = COLOURS[clean].permute(0, 3, 1, 2)
    pictures = (
        pictures + 0.08 * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(2))
    ).clamp(0, 1)
    origin = Origin(
        torch.eye(2, 3).expand(SAMPLES, 2, 2, 3), ((HEIGHT, WIDTH),) * SAMPLES, ((1,),) * SAMPLES
    )
    keys = tuple(("planted", str(sample), "0", "1") for sample in range(SAMPLES))
    return Clip(
        frames=pictures[:, None].expand(-1, 2, -1, -1, -1),
        masks=torch.stack([clean, noise(clean)], 1),
        num_objects=torch.ones(SAMPLES, dtype=torch.int64),
        slots=1,
        keys=keys,
        clean=torch.stack([clean, clean], 1),
        origin=origin,
    )


def pretrained(share: float) -> ByHeart:
    """Return the small network as it is after some steps on true labels.

    With nothing learned by heart.
    """
    network = outcome(
        learner_of("ce_plain", 60, share=0.0), planted(lambda clean: clean), 60
    ).learner.networks[0]
    network.share = share
    return network


def learner_of(
    kind: str,
    steps: int,
    *,
    rate: float = 1.0,
    share: float = SHARE,
    clean_start: bool = False,
    length: int | None = None,
    **settings,
) -> Learner:
    """Return a learner of the small network by a method.

    rate: of descent; clean_start: from true labels, as every training of the pipeline starts;
    length: of the schedule that the method sees, if not `steps`: mining, say, begins after 0.18 of
    it.
    """
    schedule = Schedule(iterations=steps, batch=SAMPLES, learning_rate=rate, amp=False, objects=1)
    method = methods.build(kind, total_iterations=length or steps, **settings)
    network = pretrained(share) if clean_start else ByHeart(share)
    learner = make_learner(network, method, schedule, 0, torch.device("cpu"))
    learner.optimizers = [
        *descent(learner.weights),
        *(descent(method.parameters()) if method.parameters() else []),
    ]
    return learner


@dataclass
class Outcome:
    """What a training made of the planted labels, and its learner."""

    corrected: float  # share of wrongly labelled pixels that are predicted as is true
    right: float  # share of all pixels predicted as is true
    doubt: float  # mean probability that is not the true label's
    learner: Learner


def outcome(learner: Learner, clip: Clip, steps: int, first: int = 0) -> Outcome:
    """Train on the same batch from iteration `first` to `steps` and say what was learned of it."""
    for iteration in range(first, steps):
        take_step(learner, clip, iteration)
    with torch.no_grad():
        (logits,) = learner.networks[0].forward_clip(clip, generator=torch.Generator()).logits
    true, given = clip.clean[:, 1], clip.masks[:, 1]
    right = logits.argmax(1) == true
    doubt = 1 - logits.softmax(1).gather(1, true[:, None])
    return Outcome(
        float(right[true != given].float().mean()),
        float(right.float().mean()),
        float(doubt.mean()),
        learner,
    )


def learn(kind: str, noise, steps: int, **settings) -> Outcome:
    """Train the small network by a method on planted labels."""
    return outcome(learner_of(kind, steps, **settings), planted(noise), steps)
