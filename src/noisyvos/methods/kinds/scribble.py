"""Learning from scribbles: cross-entropy on labelled pixels, smoothness everywhere.

Source: arXiv 2303.14384 and its released code. It works with any network. A network that also
predicts the prompt's frame (RHMNet) learns from that frame too.
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
    """Settings of `scribble`; defaults are those published for still images.

    For videos `background_weight` is 2.
    """

    background_weight: float = Field(
        1.0, gt=0, description="Weight of background pixels. The published value on videos is 2."
    )
    smoothness: float = Field(0.3, ge=0, description="Weight of the smoothness term.")
    edges: float = Field(
        10.0, ge=0, description="How much an edge of the picture excuses an edge of the prediction."
    )


@METHODS.register("scribble", ScribbleSettings)
class Scribble(Method):
    """Weighted mean cross-entropy over all labelled pixels of a clip, plus the smoothness loss."""

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
        """Return the cross-entropy of one frame, `ce` and `total`.

        Smoothness needs the image, so only `clip_loss` includes it.
        """
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
        """Return `ce`, `smooth` and their weighted `total`.

        `ce` covers all labelled pixels of a sample's frames. `smooth` is the mean over frames and
        samples.
        """
        output = outputs[0]
        frames = output.logits if output.first is None else (output.first, *output.logits)
        start = clip.masks.shape[1] - len(frames)
        # (B, T, K + 1, H, W)
        logits = torch.stack([_used(each, clip.num_objects) for each in frames], 1)
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
    """Return logits (B, K + 1, H, W), at least float32, with unused slots masked."""
    slots = torch.arange(logits.shape[1], device=logits.device)
    unused = slots[None, :] > num_objects[:, None]
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).masked_fill(
        unused[:, :, None, None], UNUSED_LOGIT
    )
