"""Learning from scribbles: cross-entropy where there is a label, smoothness everywhere (arXiv 2303.14384, released code).

For any network; one that predicts the frame of the prompt too (RHMNet) learns from that frame as well.
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from noisyvos.losses.pixels import UNUSED_LOGIT
from noisyvos.losses.scribbles import gray, partial_cross_entropy, smoothness
from noisyvos.methods.base import METHODS, Method
from noisyvos.models.base import Clip, ClipOutput
from noisyvos.registry import Settings


class ScribbleSettings(Settings):
    """Weights as published for still images; `background_weight` is 2 on videos."""

    background_weight: float = Field(1.0, gt=0)  # of a background pixel in the cross-entropy
    smoothness: float = Field(0.3, ge=0)  # weight of the smoothness term
    edges: float = Field(10.0, ge=0)  # how much edges of the picture excuse edges of the prediction


@METHODS.register("scribble", ScribbleSettings)
class Scribble(Method):
    """Weighted mean cross-entropy over all labelled pixels of a clip, and the smoothness of its probabilities."""

    settings: ScribbleSettings

    def terms(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        num_objects: Tensor,
        teacher_logits: Tensor | None = None,
        iteration: int = 0,
    ) -> dict[str, Any]:
        """Return the cross-entropy of one frame, `ce` and `total`; smoothness needs the picture, so only clips have it."""
        ce = self._cross_entropy(_used(logits, num_objects).unsqueeze(1), target.unsqueeze(1))
        return {"total": ce, "ce": ce, "top_p": 1.0}

    def clip_loss(
        self,
        outputs: list[ClipOutput],
        clip: Clip,
        *,
        teacher: ClipOutput | None = None,
        iteration: int = 0,
    ) -> dict[str, Any]:
        """Return `ce` over all labelled pixels of a sample's frames, `smooth` (mean over frames and samples) and their weighted `total`."""
        output = outputs[0]
        frames = output.logits if output.first is None else (output.first, *output.logits)
        start = clip.masks.shape[1] - len(frames)
        logits = torch.stack(
            [_used(each, clip.num_objects) for each in frames], 1
        )  # (B, T, K + 1, H, W)
        ce = self._cross_entropy(logits, clip.masks[:, start:])
        terms = {"total": ce, "ce": ce, "top_p": 1.0}
        if self.settings.smoothness:
            probabilities = torch.softmax(logits, 2).flatten(0, 1)
            smooth = smoothness(
                probabilities, gray(clip.frames[:, start:]).flatten(0, 1), self.settings.edges
            )
            terms |= {"smooth": smooth, "total": ce + self.settings.smoothness * smooth}
        return terms

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        return partial_cross_entropy(logits, labels, self.settings.background_weight)


def _used(logits: Tensor, num_objects: Tensor) -> Tensor:
    """Return logits (B, K + 1, H, W) of at least single precision in which slots without an object take no part."""
    slots = torch.arange(logits.shape[1], device=logits.device)
    unused = slots[None, :] > num_objects[:, None]
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).masked_fill(
        unused[:, :, None, None], UNUSED_LOGIT
    )
