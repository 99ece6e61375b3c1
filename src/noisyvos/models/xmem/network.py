"""The XMem network (Cheng and Schwing, ECCV 2022) at its published size, and its training pass.

Parameter names are the published ones. The random choices of the training pass are drawn apart from
its computation.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.errors import UserError
from noisyvos.models.aggregation import aggregate, crop, padding
from noisyvos.models.base import MODELS, Clip, ClipOutput, Session, VideoModel
from noisyvos.models.xmem.decoder import Decoder
from noisyvos.models.xmem.encoders import (
    KeyFeatures,
    KeyProjection,
    ResNetKeyEncoder,
    ResNetValueEncoder,
    ValueEncoder,
    Widths,
)
from noisyvos.models.xmem.fast import NETWORK
from noisyvos.models.xmem.reading import affinity, readout, similarity
from noisyvos.models.xmem.session import XMemSession
from noisyvos.models.xmem.settings import XMemMemory, XMemSettings

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Choices:
    """The random choices of one training pass."""

    # for t = 1..T-1: (B, R) indices of the memory frames; None: all frames before t
    references: tuple[Tensor | None, ...]
    deep_updates: tuple[bool, ...]  # for t = 1..T-2

    def rows(self, first: int, count: int) -> "Choices":
        """Return the choices for some samples of the batch."""
        rows = slice(first, first + count)
        references = tuple(None if each is None else each[rows] for each in self.references)
        return Choices(references, self.deep_updates)


def draw_choices(
    batch: int,
    length: int,
    references: int,
    deep_update_probability: float,
    generator: torch.Generator,
) -> Choices:
    """Draw memory frames per sample, and deep updates per step for the whole batch.

    The memory frames of a step are frame 0 and distinct earlier ones.
    """
    memory: list[Tensor | None] = []
    deep: list[bool] = []
    for t in range(1, length):
        if t <= references:
            memory.append(None)
        else:
            rows = [
                torch.randperm(t - 1, generator=generator)[: references - 1] + 1
                for _ in range(batch)
            ]
            memory.append(torch.stack([torch.cat([row.new_zeros(1), row]) for row in rows]))
        if t < length - 1:
            deep.append(bool(torch.rand((), generator=generator) < deep_update_probability))
    return Choices(tuple(memory), tuple(deep))


@dataclass(frozen=True)
class SegmentedClips:
    """For t = 1..T-1 logits and probabilities (B, K + 1, H, W)."""

    logits: tuple[Tensor, ...]
    probabilities: tuple[Tensor, ...]


@MODELS.register("xmem", XMemSettings)
class XMem(VideoModel):
    """Key encoder, value encoder, key projection and decoder; the session holds the memory.

    Every method but `forward_clip` and `session` takes normalised and padded frames.
    """

    memory_settings = XMemMemory
    fast_blocks = NETWORK
    recorded_parts = ("encode_key", "encode_value", "segment")
    settings: XMemSettings
    mean: Tensor
    std: Tensor

    def __init__(self, settings: XMemSettings) -> None:
        super().__init__()
        self.settings = settings
        self.widths = self.choose_widths()
        self.stride = self.widths.stride
        self.key_encoder = self.make_key_encoder()
        self.value_encoder = self.make_value_encoder()
        self.key_proj = self.make_key_projection()
        self.decoder = Decoder(self.widths)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def choose_widths(self) -> Widths:
        """Return the channel counts."""
        return Widths(
            key=self.settings.key_dim,
            value=self.settings.value_dim,
            hidden=self.settings.hidden_dim,
            features=(1024, 512, 256),
            value_features=256,
            decoder=(512, 256, 256),
            hidden_inner=256,
            reduction=16,
            stride=16,
        )

    def make_key_encoder(self) -> torch.nn.Module:
        """Return the trunk that maps frames to `KeyFeatures`."""
        return ResNetKeyEncoder()

    def make_value_encoder(self) -> ValueEncoder:
        """Return the trunk and head that map frames and masks to values."""
        return ResNetValueEncoder(self.widths, self.settings.single_object)

    def make_key_projection(self) -> KeyProjection:
        """Return what maps deep features to key, shrinkage and selection."""
        return KeyProjection(self.widths.features[0], self.widths.key)

    @classmethod
    def settings_from_official(cls, state: dict[str, Tensor]) -> dict[str, Any]:
        """Read the sizes back from a published state dict; UserError names a missing entry."""
        try:
            transform = state.get("decoder.hidden_update.transform.weight")
            return {
                "key_dim": state["key_proj.key_proj.weight"].shape[0],
                "value_dim": state["value_encoder.fuser.block2.conv2.weight"].shape[0],
                "hidden_dim": 0 if transform is None else transform.shape[0] // 3,
                "single_object": state["value_encoder.conv1.weight"].shape[1] == 4,
            }
        except KeyError as error:
            raise UserError(
                f"This is not an XMem checkpoint: the entry {error} is missing."
            ) from None

    def normalise(self, frames: Tensor) -> Tensor:
        """Map RGB in [0, 1] (..., 3, H, W) to what the encoders take."""
        return (frames - self.mean) / self.std

    def new_hidden(self, batch: int, objects: int, like: Tensor) -> Tensor | None:
        """Return an empty hidden state (batch, objects, C_h, h, w); None without sensory memory.

        Its size is that of `like` (..., h, w).
        """
        if not self.widths.hidden:
            return None
        return like.new_zeros(batch, objects, self.widths.hidden, *like.shape[-2:])

    def encode_key(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, KeyFeatures]:
        """Map frames (B, 3, H, W) to key, shrinkage, selection (B, C, h, w) and skip features."""
        features = self.key_encoder(frames)
        key, shrinkage, selection = self.key_proj(features.deep)
        return key, shrinkage, selection, features

    def encode_value(
        self,
        frames: Tensor,
        deep: Tensor,
        hidden: Tensor | None,
        masks: Tensor,
        *,
        deep_update: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Map frames (B, 3, H, W) and masks (B, N, H, W) to values (B, N, C_v, h, w) and hidden
        state.
        """
        return self.value_encoder(frames, deep, hidden, masks, deep_update=deep_update)

    def segment(
        self,
        features: KeyFeatures,
        readout: Tensor,
        hidden: Tensor | None,
        *,
        selector: Tensor | None = None,
        update_hidden: bool = True,
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Return the hidden state, aggregated logits and probabilities (B, N + 1, H, W).

        readout (B, N, C_v, h, w); selector (B, N) is 1 for slots in use. Background comes first.
        """
        hidden, logits = self.decoder(features, readout, hidden, update_hidden=update_hidden)
        probabilities = torch.sigmoid(logits)
        if selector is not None:
            probabilities = probabilities * selector[:, :, None, None]
        return hidden, *aggregate(probabilities)

    def forward_clip(self, clip: Clip, *, generator: torch.Generator) -> ClipOutput:
        """Run the training pass (section 3.4).

        Memory frames and deep updates come from `generator`.
        """
        first, whole = clip.place()
        length, settings = clip.frames.shape[1], self.settings
        choices = draw_choices(
            whole, length, settings.reference_frames, settings.deep_update_probability, generator
        )
        return ClipOutput(self.segment_clips(clip, choices.rows(first, len(clip.frames))).logits)

    def segment_clips(self, clip: Clip, choices: Choices) -> SegmentedClips:
        """Segment frames 1..T-1 from the mask of frame 0; gradients run through all frames."""
        batch, length, _, height, width = clip.frames.shape
        pads = padding(height, width, self.stride)
        frames = F.pad(self.normalise(clip.frames).flatten(0, 1), pads)
        frames = frames.contiguous(memory_format=self.memory_format)
        per_frame = frames.unflatten(0, (batch, length))
        slots = torch.arange(clip.slots, device=frames.device)
        selector = (slots < clip.num_objects.view(-1, 1)).to(frames.dtype)  # (B, K)

        key, shrinkage, selection, features = self.encode_key(frames)
        keys, shrinkages, selections = (
            x.unflatten(0, (batch, length)).flatten(3) for x in (key, shrinkage, selection)
        )  # (B, T, C, hw)
        hidden = self.new_hidden(batch, clip.slots, key)
        masks = F.pad(clip.first_mask(), pads)
        at = features.of_frames(batch)
        value, hidden = self.encode_value(per_frame[:, 0], at[0].deep, hidden, masks)
        values = [value.flatten(3)]

        logits, probabilities = [], []
        for t in range(1, length):
            memory = choices.references[t - 1]
            near = similarity(
                _pick(keys, memory, t), _pick(shrinkages, memory, t), keys[:, t], selections[:, t]
            )
            read = readout(affinity(near), _pick_values(values, memory))
            last = t == length - 1
            new_hidden, frame_logits, frame_probabilities = self.segment(
                at[t],
                read.unflatten(-1, key.shape[-2:]),
                hidden,
                selector=selector,
                update_hidden=not last,
            )
            logits.append(crop(frame_logits, pads, height, width))
            probabilities.append(crop(frame_probabilities, pads, height, width))
            if not last:
                value, hidden = self.encode_value(
                    per_frame[:, t],
                    at[t].deep,
                    new_hidden,
                    frame_probabilities[:, 1:],
                    deep_update=choices.deep_updates[t - 1],
                )
                values.append(value.flatten(3))
        return SegmentedClips(tuple(logits), tuple(probabilities))

    def session(self, *, channels: int, memory: XMemMemory, length: int | None) -> Session:
        """Start a video; see `noisyvos.models.xmem.session`."""
        return XMemSession(self.for_inference(), channels=channels, memory=memory, length=length)


def _pick(tensor: Tensor, memory: Tensor | None, t: int) -> Tensor:
    """Return (B, C, frames * hw) of the memory frames of (B, T, C, hw)."""
    if memory is None:
        chosen = tensor[:, :t]
    else:
        rows = torch.arange(len(memory), device=tensor.device).view(-1, 1)
        chosen = tensor[rows, memory.to(tensor.device)]
    return chosen.transpose(1, 2).flatten(2)


def _pick_values(values: list[Tensor], memory: Tensor | None) -> Tensor:
    """Return (B, N, C, frames * hw) of the memory frames among values, each (B, N, C, hw)."""
    if memory is None:
        return torch.cat(values, -1)
    stacked = torch.stack(values, 1)  # (B, T, N, C, hw)
    rows = torch.arange(len(memory), device=stacked.device).view(-1, 1)
    return stacked[rows, memory.to(stacked.device)].permute(0, 2, 3, 1, 4).flatten(3)
