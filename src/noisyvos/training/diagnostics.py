"""What a network does with wrong labels while it learns: counted on training batches, never used by a loss."""

import torch
from torch import Tensor
from torch.nn import functional

from noisyvos.io.images import VOID
from noisyvos.models.base import Clip, ClipOutput

HARD_SHARE = 0.15  # the share of highest losses that top-p mining ends with
_SHARES = {  # diagnostic: (pixels counted, pixels looked at)
    "mislabelled": ("wrong", "seen"),
    "memorised": ("memorised", "wrong"),
    "corrected": ("corrected", "wrong"),
    "memorised_added": ("added/memorised", "added/wrong"),
    "memorised_lost": ("lost/memorised", "lost/wrong"),
    "mislabelled_hard": ("hard wrong", "hard"),
    "student_iou_clean": ("student clean/and", "student clean/or"),
    "student_iou_given": ("student given/and", "student given/or"),
    "given_iou_clean": ("given clean/and", "given clean/or"),
    "teacher_iou_clean": ("teacher clean/and", "teacher clean/or"),
    "teacher_iou_given": ("teacher given/and", "teacher given/or"),
}
COLUMNS = tuple(_SHARES)


def _overlap(name: str, a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """Return intersection and union of two foregrounds of equal identity."""
    return {f"{name}/and": ((a == b) & (a > 0)).sum(), f"{name}/or": ((a > 0) | (b > 0)).sum()}


def _frame(logits: Tensor, given: Tensor, clean: Tensor, teacher: Tensor | None) -> dict[str, Tensor]:
    seen = (given != VOID) & (clean != VOID)
    given, clean = given.where(seen, 0), clean.where(seen, 0)
    predicted = logits.argmax(1).where(seen, 0)
    wrong = seen & (given != clean)
    loss = functional.cross_entropy(logits, given, reduction="none").where(seen, 0).flatten()
    hard = loss.topk(max(1, int(loss.numel() * HARD_SHARE))).indices
    counts = {
        "seen": seen.sum(),
        "wrong": wrong.sum(),
        "memorised": (wrong & (predicted == given)).sum(),
        "corrected": (wrong & (predicted == clean)).sum(),
        "hard": torch.tensor(hard.numel()),
        "hard wrong": wrong.flatten()[hard].sum(),
    }
    for side, where in (("lost", (given == 0) & (clean > 0)), ("added", (given > 0) & (clean == 0))):
        counts[f"{side}/wrong"] = (wrong & where).sum()
        counts[f"{side}/memorised"] = (wrong & where & (predicted == given)).sum()
    for name, ours, theirs in (("student clean", predicted, clean), ("student given", predicted, given), ("given clean", given, clean)):
        counts |= _overlap(name, ours, theirs)
    if teacher is not None:
        guess = teacher.argmax(1).where(seen, 0)
        counts |= _overlap("teacher clean", guess, clean) | _overlap("teacher given", guess, given)
    return counts


@torch.no_grad()
def count(output: ClipOutput, clip: Clip, teacher: ClipOutput | None) -> dict[str, float]:
    """Return pixel counts of a batch that carries clean labels; counts of several batches add up."""
    if clip.clean is None:
        return {}
    sums: dict[str, float] = {}
    for index, logits in enumerate(output.logits):
        guess = None if teacher is None else teacher.logits[index].float()
        for name, value in _frame(logits.float(), clip.masks[:, index + 1], clip.clean[:, index + 1], guess).items():
            sums[name] = sums.get(name, 0.0) + float(value)
    return sums


def shares(counts: dict[str, float]) -> dict[str, float]:
    """Return the diagnostics that the counts amount to; one without a single pixel to speak of is left out.

    mislabelled: share of wrong labels; memorised / corrected: share of those predicted as labelled / as is true;
    memorised_added, memorised_lost: of background labelled object, of object labelled background; mislabelled_hard:
    share of wrong labels among the hardest pixels; *_iou_*: overlap of student, teacher and given labels.
    """
    return {name: counts[over] / counts[under] for name, (over, under) in _SHARES.items() if counts.get(under)}
