"""The noise diagnostics of one step: every frame of the whole batch, wherever its samples were computed."""

import torch
from torch import Tensor

from noisyvos.losses.pixels import frame
from noisyvos.methods.base import Method
from noisyvos.methods.diagnostics import diagnose
from noisyvos.models.base import Clip
from noisyvos.training.group import ALONE, Group
from noisyvos.training.step import StepResult


@torch.no_grad()
def diagnoses(
    method: Method, result: StepResult, clip: Clip, iteration: int, group: Group
) -> list[dict[str, float]]:
    """Return the diagnostics of every frame of the batch, to the leading process; none where clean labels are not known.

    Of two networks both are diagnosed, the second one's fates of wrong labels under names that end in `_second`.
    """
    if clip.clean is None:
        return []
    outputs = [
        () if output is None else output.logits
        for output in (result.output, result.teacher, result.peer)
    ]
    labels = [clip.masks, clip.clean, clip.num_objects]
    if group.size > 1:
        outputs, labels = (
            [[each.detach().cpu() for each in logits] for logits in outputs],
            [each.cpu() for each in labels],
        )
    pieces = group.gathered((outputs, labels))
    if not pieces:
        return []
    masks, clean, count = (
        torch.cat(each) for each in zip(*(labels for _, labels in pieces), strict=True)
    )
    seen, guessed, peer = (
        [torch.cat(logits) for logits in zip(*each, strict=True)]
        for each in zip(*(outputs for outputs, _ in pieces), strict=True)
    )
    method.from_all = ALONE.from_all  # the whole batch is here
    top_p = (
        float(result.terms.get("top_p", 1.0)) if result.peer is None else 1.0
    )  # two networks keep small losses, not large ones
    found = []
    for index, logits in enumerate(seen):
        given, true = masks[:, index + 1], clean[:, index + 1]
        shares = diagnose(logits, given, true, count, guessed[index] if guessed else None, top_p)
        found.append(
            shares
            | (_of_two(method, logits, peer[index], given, true, count, iteration) if peer else {})
        )
    return found


def _of_two(
    method: Method,
    logits: Tensor,
    peer_logits: Tensor,
    given: Tensor,
    clean: Tensor,
    count: Tensor,
    iteration: int,
) -> dict[str, float]:
    """Return `mislabelled_kept`, the share of wrong labels among the pixels that the first network learns from, and the second's fates."""
    keep = method.kept_pixels(
        frame(logits, given, count), frame(peer_logits, given, count), iteration
    ) & (clean != 255)
    wrong = keep & (given != clean)
    kept = {"mislabelled_kept": int(wrong.sum()) / int(keep.sum())} if keep.any() else {}
    second = diagnose(peer_logits, given, clean, count)
    fates = ("memorised", "corrected", "other")
    return kept | {
        f"{name}_second": value for name, value in second.items() if name.split("_")[0] in fates
    }
