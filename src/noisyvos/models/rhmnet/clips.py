"""RHMNet's training pass over a batch of clips and the losses that need more of it than logits (arXiv 2303.14384; released code)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.losses.pixels import VOID
from noisyvos.losses.scribbles import difference, downsampled, ignore_bands, region_loss
from noisyvos.models.base import Clip, ClipOutput
from noisyvos.models.matching import CLAMP, padding
from noisyvos.models.rhmnet.attention import Dropout
from noisyvos.models.rhmnet.backbone import Features
from noisyvos.models.rhmnet.settings import CELL, CHANNELS

if TYPE_CHECKING:
    from noisyvos.models.rhmnet.network import RHMNet

TRAINED_ROW = 2  # of the label embeddings: predicted masks


@dataclass(frozen=True)
class Pass:
    """What one pass says of T frames, frame 0 included."""

    region_logits: Tensor  # (B, T, K, H / 4, W / 4)
    logits: Tensor  # (B, T, K + 1, H, W)
    probabilities: Tensor  # (B, T, K + 1, H, W)


def run(
    model: "RHMNet",
    features: Features,
    length: int,
    scribbles: Tensor,
    used: Tensor,
    drop: Dropout | None,
    *,
    backwards: bool = False,
) -> Pass:
    """Segment all frames of clips in time order, or from the last to the first; the result is in time order.

    features: of B * `length` frames, clip by clip; scribbles (B, K + 1, H, W) of the frame to start from, 0 or 1, background
    first; used (B, K). Every frame's regions and masks are remembered and gradients run through all of them.
    """
    first, second = model.transformer.decoders
    order = range(length)[:: -1 if backwards else 1]
    start, finish = model.initial_memory(features.at(order[0], length), scribbles, drop)
    regions_memory, masks_memory = [first.remember(start)], [second.remember(finish)]
    found = {}
    for t in order:
        at = features.at(t, length)
        regions = model.find_regions(at, regions_memory, used, drop)
        own = (
            [second.remember(regions.memory)] if len(masks_memory) > 1 else []
        )  # the first frame's are not read, as published
        targets = model.find_targets(at, regions, [*masks_memory, *own], used, drop)
        regions_memory.append(first.remember(regions.memory))
        mask = model.mask_memory(targets, row=TRAINED_ROW, threshold=model.settings.mask_threshold)
        masks_memory.append(second.remember(mask))
        found[t] = (regions.logits, targets.logits, targets.probabilities)
    return Pass(*(torch.stack([found[t][part] for t in range(length)], 1) for part in range(3)))


def planes(labels: Tensor, objects: int) -> Tensor:
    """Return 0/1 planes of labels (..., H, W) int64, background first, (..., objects + 1, H, W) float32; 255 is in none of them."""
    ids = torch.arange(objects + 1, device=labels.device).view(-1, 1, 1)
    return (labels.unsqueeze(-3) == ids).float()


def region_targets(labels: Tensor, objects: int, band: int, cell: int = 4) -> tuple[Tensor, Tensor]:
    """Return what is asked of the regions and where, both (..., objects, H / cell, W / cell) bool.

    labels (..., H, W) int64. Everything outside an object's scribble counts as no region of it, unlabelled places too, but for
    the band of `band` pixels across around the scribble.
    """
    scribbles = planes(labels, objects)[..., 1:, :, :]
    return downsampled(scribbles, cell), ~downsampled(ignore_bands(scribbles, band), cell)


def forward_clip(model: "RHMNet", clip: Clip, generator: torch.Generator) -> ClipOutput:
    """Return the logits of a batch of clips and, where gradients are wanted, the losses of regions and of consistency.

    Both are means over samples. Labels of frame 0 are the scribbles that the pass starts from, background included.
    """
    batch, length, _, height, width = clip.frames.shape
    objects = int(clip.num_objects.max())
    place, whole = clip.place()
    seeds = torch.randint(2**62, (whole, clip.slots), generator=generator)[
        place : place + batch, :objects
    ]
    drop = Dropout(model.settings.dropout, seeds, clip.frames.device) if model.training else None
    used = (torch.arange(objects, device=clip.frames.device) < clip.num_objects.view(-1, 1)).float()
    pads = padding(height, width, model.stride)
    features = model.look(F.pad(model.normalise(clip.frames).flatten(0, 1), pads))
    labels = F.pad(clip.masks, pads, value=VOID)
    forward = run(model, features, length, planes(labels[:, 0], objects), used, drop)
    left, _, top, _ = pads
    logits = forward.logits[..., top : top + height, left : left + width]
    unused = logits.new_full((), CLAMP / (1 - CLAMP)).log()
    logits = torch.cat(
        [logits, unused.expand(batch, length, clip.slots - objects, height, width)], 2
    )
    auxiliary = {}
    settings = model.settings
    if torch.is_grad_enabled() and settings.region_weight:
        target, asked = region_targets(labels, objects, settings.ignore_band, model.stride // CELL)
        inside = downsampled(
            F.pad(torch.ones_like(clip.masks, dtype=torch.float32), pads), model.stride // CELL
        ).unsqueeze(2)
        asked = asked & inside & used.bool()[:, None, :, None, None]
        auxiliary["region"] = settings.region_weight * region_loss(
            forward.region_logits, target, asked, settings.focal_alpha
        )
    if torch.is_grad_enabled() and settings.consistency:
        with torch.no_grad():
            backward = run(
                model, features, length, planes(labels[:, -1], objects), used, drop, backwards=True
            )
        auxiliary["consistency"] = settings.consistency * difference(
            forward.probabilities, backward.probabilities, CHANNELS
        )
    frames = logits.unbind(1)
    return ClipOutput(frames[1:], auxiliary, first=frames[0])
