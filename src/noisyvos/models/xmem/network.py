"""The XMem network (Cheng and Schwing, ECCV 2022), at its published size and with its published parameter names."""

import copy
from typing import Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from noisyvos.errors import UserError
from noisyvos.models.base import MODELS, Clip, ClipOutput, Session, VideoModel
from noisyvos.models.fast.folding import with_fast_convolutions
from noisyvos.models.matching import aggregate
from noisyvos.models.xmem import clips
from noisyvos.models.xmem.decoder import Decoder
from noisyvos.models.xmem.encoders import (
    Features,
    KeyProjection,
    ResNetKeyEncoder,
    ResNetValueEncoder,
    ValueEncoder,
    Widths,
)
from noisyvos.models.xmem.settings import XMemMemory
from noisyvos.registry import Settings

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB
STD = (0.229, 0.224, 0.225)


class XMemSettings(Settings):
    """Size of the network and the random choices of its training pass."""

    key_dim: int = Field(64, ge=1)
    value_dim: int = Field(512, ge=16)
    hidden_dim: int = Field(64, ge=0)  # 0: no sensory memory
    single_object: bool = (
        False  # the network of still-image training: no plane for the other objects
    )
    reference_frames: int = Field(3, ge=1)  # memory frames of a training step
    deep_update_probability: float = Field(0.2, ge=0, le=1)


@MODELS.register("xmem", XMemSettings)
class XMem(VideoModel):
    """Key encoder, value encoder, key projection and decoder; the memory lives outside.

    Every method but `forward_clip` and `session` takes frames that are normalised and padded already.
    """

    memory_settings = XMemMemory
    memory_format: ClassVar[torch.memory_format] = (
        torch.contiguous_format
    )  # of the frames the encoders see

    def __init__(self, settings: XMemSettings) -> None:
        super().__init__()
        self.settings = settings
        self.widths = self.choose_widths(settings)
        self.key_encoder = self.make_key_encoder()
        self.value_encoder = self.make_value_encoder()
        self.key_proj = KeyProjection(self.widths.features[0], self.widths.key)
        self.decoder = Decoder(self.widths)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    @staticmethod
    def choose_widths(settings: XMemSettings) -> Widths:
        """Return the channel counts."""
        return Widths(
            key=settings.key_dim,
            value=settings.value_dim,
            hidden=settings.hidden_dim,
            features=(1024, 512, 256),
            value_features=256,
            decoder=(512, 256, 256),
            hidden_inner=256,
            reduction=16,
            stride=16,
        )

    def make_key_encoder(self) -> torch.nn.Module:
        """Return the trunk that maps frames to `Features`."""
        return ResNetKeyEncoder()

    def make_value_encoder(self) -> ValueEncoder:
        """Return the trunk and head that map frames and masks to values."""
        return ResNetValueEncoder(self.widths, self.settings.single_object)

    @classmethod
    def settings_from_official(cls, state: dict[str, Tensor]) -> dict[str, Any]:
        """Read the sizes back from a published state dict; UserError names an entry that is missing."""
        try:
            transform = state.get("decoder.hidden_update.transform.weight")
            return {
                "key_dim": state["key_proj.key_proj.weight"].shape[0],
                "value_dim": state["value_encoder.fuser.block2.conv2.weight"].shape[0],
                "hidden_dim": 0 if transform is None else transform.shape[0] // 3,
                "single_object": state["value_encoder.conv1.weight"].shape[1] == 4,
            }
        except KeyError as error:
            raise UserError(f"This is no XMem checkpoint: the entry {error} is missing.") from None

    def for_inference(self) -> Self:
        """Return a network with this one's present weights, shared or folded, that is faster and cannot be trained."""
        twin = copy.copy(self)
        twin.memory_format = torch.channels_last
        twin._modules = self._modules | {
            "key_encoder": self.key_encoder.for_inference(),
            "value_encoder": self.value_encoder.for_inference(),
            "decoder": with_fast_convolutions(self.decoder),
        }
        return twin

    def normalise(self, frames: Tensor) -> Tensor:
        """Map RGB in [0, 1] (..., 3, H, W) to what the encoders take."""
        return (frames - self.mean) / self.std

    def new_hidden(self, batch: int, objects: int, like: Tensor) -> Tensor | None:
        """Return an empty hidden state (batch, objects, C_h, h, w) at the size of `like` (..., h, w); None without sensory memory."""
        if not self.widths.hidden:
            return None
        return like.new_zeros(batch, objects, self.widths.hidden, *like.shape[-2:])

    def encode_key(
        self, frames: Tensor, *, shrinkage: bool = True, selection: bool = True
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Features]:
        """Map frames (B, 3, H, W) to key, shrinkage, selection (B, C, h, w) and the skip features."""
        features = self.key_encoder(frames)
        return *self.key_proj(features.deep, shrinkage=shrinkage, selection=selection), features

    def encode_value(
        self,
        frames: Tensor,
        deep: Tensor,
        hidden: Tensor | None,
        masks: Tensor,
        *,
        deep_update: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Map frames (B, 3, H, W) and masks (B, N, H, W) to values (B, N, C_v, h, w) and the hidden state."""
        return self.value_encoder(frames, deep, hidden, masks, deep_update=deep_update)

    def segment(
        self,
        features: Features,
        readout: Tensor,
        hidden: Tensor | None,
        *,
        selector: Tensor | None = None,
        update_hidden: bool = True,
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Return the hidden state, aggregated logits and probabilities (B, N + 1, H, W), background first.

        readout (B, N, C_v, h, w); selector (B, N) is 1 for slots in use.
        """
        hidden, logits = self.decoder(features, readout, hidden, update_hidden=update_hidden)
        probabilities = torch.sigmoid(logits)
        if selector is not None:
            probabilities = probabilities * selector[:, :, None, None]
        return hidden, *aggregate(probabilities)

    def forward_clip(self, clip: Clip, *, generator: torch.Generator) -> ClipOutput:
        """Run the training pass (section 3.4) on a batch of clips; memory frames and deep updates come from `generator`."""
        first, whole = clip.place()
        length, settings = clip.frames.shape[1], self.settings
        choices = clips.draw_choices(
            whole, length, settings.reference_frames, settings.deep_update_probability, generator
        )
        return ClipOutput(clips.run(self, clip, choices.rows(first, len(clip.frames))).logits)

    def session(self, *, channels: int, memory: Settings, length: int | None) -> Session:
        """Start a video; see `noisyvos.models.xmem.session`."""
        from noisyvos.models.xmem.session import XMemSession

        return XMemSession(self, channels=channels, settings=memory, length=length)
