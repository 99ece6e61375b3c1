"""AOC-Net's training pass over a batch of clips (released code).

Frame 0 is the reference of all later frames and the frame before the first of them. Published clips have a reference of their
own and five frames after a first previous one; their optimiser step adds the gradients of the five, as one pass does here,
since nothing but the embedding links them: masks are labels and kept features are cut from the graph.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.models.base import Clip

if TYPE_CHECKING:
    from noisyvos.models.aoc_net.network import AOCNet, Look

NEVER = -1e4  # logit of a slot without an object


def run(model: "AOCNet", clip: Clip, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Return logits (B, K + 1, H, W) of frames 1..T-1."""
    from noisyvos.models.aoc_net.network import fitting

    batch, _, _, height, width = clip.frames.shape
    size = (fitting(height), fitting(width))
    seeds = _seeds(clip, generator)
    samples = []
    for index in range(batch):
        frames = clip.frames[index]
        if size != (height, width):
            frames = F.interpolate(frames, size, mode="bicubic", align_corners=False)
        looks = model.embed(frames, _dropout(model, frames, seeds[index]))
        given = clip.masks[index] if _shown(model, clip) else None
        samples.append(
            _walk(
                model,
                looks,
                clip.masks[index, 0],
                given,
                int(clip.num_objects[index]) + 1,
                (height, width),
            )
        )
    result = []
    for logits in zip(*samples, strict=True):
        empty = [
            logits[0].new_full((clip.slots + 1 - len(each), height, width), NEVER)
            for each in logits
        ]
        result.append(torch.stack([torch.cat(pair) for pair in zip(logits, empty, strict=True)]))
    return tuple(result)


def _shown(model: "AOCNet", clip: Clip) -> bool:
    """Return whether the mask of the frame before is the given one."""
    which = model.settings.previous_mask
    return which == "given" or (which == "halves" and clip.progress <= 0.5)


def _walk(
    model: "AOCNet",
    looks: list["Look"],
    first: Tensor,
    given: Tensor | None,
    objects: int,
    size: tuple[int, int],
) -> list[Tensor]:
    """Return the logits (N, H, W) of one clip's frames after the first; the masks before are `given` (T, H, W) or predicted."""
    previous = looks[0].with_mask(first)
    pool, kept, result = model.pool([previous], objects), None, []
    for t, look in enumerate(looks[1:], 1):
        logits, kept = model.predict(look, pool, previous, kept)
        full = F.interpolate(logits[None].float(), size, mode="bilinear", align_corners=True)[0]
        result.append(full)
        previous = look.with_mask(full.detach().argmax(0) if given is None else given[t])
    return result


def _seeds(clip: Clip, generator: torch.Generator) -> Tensor:
    """Return a seed for each sample of this clip, drawn for the whole batch."""
    first, whole = clip.place()
    return torch.randint(2**62, (whole,), generator=generator)[first : first + len(clip.frames)]


def _dropout(model: "AOCNet", frames: Tensor, seed: Tensor) -> Tensor | None:
    share = model.settings.dropout
    if not model.training or not share:
        return None
    stream = torch.Generator(frames.device).manual_seed(int(seed))
    shape = model.feature_extracter.context_shape(frames)
    return (torch.rand(shape, generator=stream, device=frames.device) >= share).to(frames.dtype) / (
        1 - share
    )
