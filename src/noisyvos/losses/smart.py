"""Parts of SMART's loss: reliability of the label, and intersection and union with the teacher."""

import math

import torch
from torch import Tensor

from noisyvos.losses.pixels import VOID, Frame, at_least_single

LOG_FLOOR = -math.log(1e-4)  # cost of a class with target 0 in reverse cross-entropy, 9.2103


def teacher_labels(teacher_logits: Tensor, frame: Frame) -> Tensor:
    """Return the teacher's label among the used channels, (B, H, W) int64; 255 where void."""
    used = at_least_single(teacher_logits.detach()).masked_fill(~frame.used, -torch.inf)
    labels = used.max(dim=1).indices  # on a CPU ten times faster than argmax
    return labels.masked_fill(~frame.valid, VOID)


def reliability_score(given: Tensor, teacher: Tensor, num_objects: Tensor, score: str) -> Tensor:
    """Return the agreement of the given label with the teacher's, (B,) in [0, 1].

    `foreground`: Dice of the two foregrounds. `labels`: the released form, whose denominator sums
    label values, so that ids above 1 lower it. `per_class`: mean Dice of the objects. The score is
    1 if both are empty.
    """
    given, teacher = given.flatten(1), teacher.flatten(1)
    given, teacher = given.masked_fill(given == VOID, 0), teacher.masked_fill(teacher == VOID, 0)
    if score == "per_class":
        return per_object_dice(given, teacher, num_objects)
    both = ((given != 0) & (teacher != 0)).sum(1)
    sizes = (
        given.sum(1) + teacher.sum(1)
        if score == "labels"
        else (given != 0).sum(1) + (teacher != 0).sum(1)
    )
    return torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), 1.0)


def per_object_dice(given: Tensor, teacher: Tensor, num_objects: Tensor) -> Tensor:
    """Return the mean Dice over a sample's objects, (B,), for labels (B, P).

    An object absent from both counts 1.
    """
    total = torch.zeros(given.shape[0], device=given.device)
    for index in range(1, int(num_objects.max()) + 1):
        left, right = given == index, teacher == index
        sizes = left.sum(1) + right.sum(1)
        dice = torch.where(sizes > 0, 2 * (left & right).sum(1) / sizes.clamp(min=1), 1.0)
        total = total + torch.where(index <= num_objects, dice, 0.0)
    return total / num_objects


def intersection_labels(given: Tensor, teacher: Tensor, rule: str) -> Tensor:
    """Return the given label where the teacher agrees and background elsewhere, (B, H, W).

    `foreground`: the teacher predicts any object (released). `class`: it predicts the same object.
    Void stays void.
    """
    agree = teacher != 0 if rule == "foreground" else teacher == given
    return torch.where(agree | (given == VOID), given, 0)


def union_reverse_cross_entropy(frame: Frame, union: Tensor) -> Tensor:
    """Return the reverse cross-entropy with one binary target for all objects, (B, H, W).

    It is -sum_c p_c log t_c, with p clamped to [1e-7, 1] and t to [1e-4, 1]. Inside the union t_0 =
    0 and t_c = 1, outside it is the reverse. The loss is then 9.21 p_0 inside the union, and 9.21
    times the objects' probabilities outside.
    """
    probabilities = frame.probabilities.clamp(1e-7, 1)
    objects = (probabilities[:, 1:] * frame.used[:, 1:]).sum(1)
    return LOG_FLOOR * torch.where(union, probabilities[:, 0], objects)
