"""Diagnostics of a network on wrong labels: does it memorise or correct them? For one frame."""

import torch
from torch import Tensor

from noisyvos.losses.pixels import Frame, frame
from noisyvos.losses.selection import top_counts
from noisyvos.losses.smart import teacher_labels


@torch.no_grad()
def diagnose(
    logits: Tensor,
    given: Tensor,
    clean: Tensor,
    num_objects: Tensor,
    teacher_logits: Tensor | None = None,
    top_p: float = 1.0,
) -> dict[str, float]:
    """Return diagnostics of a batch of frames. Values without any pixel to count are omitted.

    logits and teacher_logits (B, K+1, H, W), given and clean (B, H, W) int64 labels, num_objects
    (B,). Pixels that are 255 in either label are excluded.

    - `mislabelled`: share of pixels with given != clean.
    - `memorised`, `corrected`, `other`: shares of these, predicted as given, as clean, or as
      neither. The suffix `_fg_bg` restricts them to object pixels labelled background, `_bg_fg` to
      background labelled object.
    - `mislabelled_top`: share of wrong labels among the `top_p` highest losses of each sample.
    - `teacher_iou_given`, `teacher_iou_clean`: mean IoU of the teacher's objects.
    """
    void = (given == 255) | (clean == 255)
    now = frame(logits, given.masked_fill(void, 255), num_objects)
    wrong = (given != clean) & now.valid
    result = share("mislabelled", wrong, now.valid) | fates(now, clean, wrong)
    hardest = hardest_pixels(now, top_p)
    result |= share("mislabelled_top", wrong & hardest, hardest)
    if teacher_logits is not None:
        teacher = teacher_labels(teacher_logits, now)
        for name, labels in (("given", now.target), ("clean", clean.masked_fill(void, 255))):
            result |= mean_iou(f"teacher_iou_{name}", teacher, labels, logits.shape[1] - 1)
    return result


def share(name: str, part: Tensor, whole: Tensor) -> dict[str, float]:
    """Return {name: |part| / |whole|}, empty if the whole is."""
    count = int(whole.sum())
    return {name: int(part.sum()) / count} if count else {}


def fates(now: Frame, clean: Tensor, wrong: Tensor) -> dict[str, float]:
    """Return the shares of predictions on wrongly labelled pixels, overall and by error
    direction.
    """
    predicted = now.log_probabilities.argmax(1)
    memorised, corrected = predicted == now.target, predicted == clean
    result: dict[str, float] = {}
    kinds = {"": wrong, "_fg_bg": wrong & (now.target == 0), "_bg_fg": wrong & (clean == 0)}
    for suffix, where in kinds.items():
        result |= share(f"memorised{suffix}", where & memorised, where)
        result |= share(f"corrected{suffix}", where & corrected, where)
        result |= share(f"other{suffix}", where & ~memorised & ~corrected, where)
    return result


def hardest_pixels(now: Frame, top_p: float) -> Tensor:
    """Return the pixels (B, H, W) that mining keeps.

    They have the `top_p` highest cross-entropies among each sample's valid pixels.
    """
    losses = now.cross_entropy.masked_fill(~now.valid, -torch.inf).flatten(1)
    ranks = losses.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return (ranks < top_counts(now.valid, top_p).unsqueeze(1)).view_as(now.valid) & now.valid


def mean_iou(name: str, left: Tensor, right: Tensor, objects: int) -> dict[str, float]:
    """Return {name: mean IoU over objects present in either}, empty without such objects."""
    values = []
    for index in range(1, objects + 1):
        a, b = (left == index).flatten(1), (right == index).flatten(1)
        union = (a | b).sum(1)
        present = union > 0
        values.append(((a & b).sum(1)[present] / union[present]).flatten())
    every = torch.cat(values)
    return {name: float(every.mean())} if len(every) else {}
