"""A small XMem for CPU runs: the same matching, memory and decoder around small encoders at stride
8 or 4.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.base import MODELS
from noisyvos.models.resnet import SmallBlock, small_norm, use_channels_last
from noisyvos.models.xmem.encoders import KeyFeatures, KeyProjection, ValueEncoder, Widths
from noisyvos.models.xmem.network import XMem
from noisyvos.models.xmem.settings import XMemSettings


class XMemTinySettings(XMemSettings):
    """Size of the small network; trained from scratch."""

    key_dim: int = Field(32, ge=1, description="Channels of the keys.")
    value_dim: int = Field(64, ge=16, description="Channels of the values.")
    # a sensory memory costs time and, in clips of three frames, learns nothing that helps
    hidden_dim: int = Field(
        0,
        ge=0,
        description="Channels of the sensory memory. The small network has none by default.",
    )
    width: int = Field(
        16,
        ge=8,
        multiple_of=8,
        description="Channels at half resolution; doubled at each further halving.",
    )
    # Where key, shrinkage and selection come from: `last`, as published, is the encoder's output
    # through 3x3 convolutions, which see 89 pixels. `early`, our change, is the output of the last
    # stage's first block through 1x1 convolutions, which see 41: on frames of 48 pixels a key that
    # sees 89 encodes position.
    key_stage: Literal["last", "early"] = Field(
        "last",
        description=(
            "Where keys come from. `last` is the encoder's output, as published. "
            "`early` is the first block of its last stage, which sees 41 pixels "
            "instead of 89. At stride 4 it sees 33 instead of 57."
        ),
    )
    # At stride 8 a frame of 48 x 72 has 6 x 9 places, and an object of 14 pixels about four.
    # At stride 4 it has about twelve, and the decoder draws at the frame's own resolution.
    stride: Literal[4, 8] = Field(
        8,
        description=(
            "Pixels between two places that are matched. At 4 the deep features have half as "
            "many channels, and masks are drawn at full instead of half resolution."
        ),
    )


def _stem(inputs: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, width, 5, 2, 2, bias=False)


def _deep_stage(width: int, stride: int) -> nn.Sequential:
    """Return two blocks from stride 4 to `stride`, with 4 * width channels at 8, 2 * width at 4."""
    outputs = width * stride // 2
    return nn.Sequential(
        SmallBlock(2 * width, outputs, stride // 4), SmallBlock(outputs, outputs, 1)
    )


@dataclass(frozen=True)
class TinyKeyFeatures(KeyFeatures):
    """The features of the small trunk, that of the last stage's first block among them."""

    early: Tensor  # (B, C, h, w)


class TinyKeyEncoder(nn.Module):
    """A stem and three residual blocks to stride 8 or 4.

    At stride 4 a convolution of the frame itself supplies the finest features.
    """

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = _stem(3, width)
        self.norm1 = small_norm(width)
        self.layer1 = SmallBlock(width, 2 * width, 2)
        self.layer2 = _deep_stage(width, stride)
        if stride == 4:
            self.conv0 = nn.Conv2d(3, width // 2, 3, padding=1, bias=False)
            self.norm0 = small_norm(width // 2)

    def forward(self, frames: Tensor) -> TinyKeyFeatures:
        """Map normalised frames (B, 3, H, W) to features at the stride, its half and quarter."""
        half = F.relu(self.norm1(self.conv1(frames)))
        quarter = self.layer1(half)
        early = self.layer2[0](quarter)
        deep = self.layer2[1](early)
        if self.stride == 4:
            full = F.relu(self.norm0(self.conv0(frames)))
            return TinyKeyFeatures(deep, half, full, early)
        return TinyKeyFeatures(deep, quarter, half, early)


class TinyValueEncoder(ValueEncoder):
    """The same trunk with one or two mask planes after RGB."""

    def __init__(self, width: int, widths: Widths, single_object: bool) -> None:
        super().__init__(single_object)
        self.conv1 = _stem(4 if single_object else 5, width)
        self.norm1 = small_norm(width)
        self.layer1 = SmallBlock(width, 2 * width, 2)
        self.layer2 = _deep_stage(width, widths.stride)
        self.add_head(widths)

    def object_features(self, planes: Tensor) -> Tensor:
        """Map (B * N, 4 or 5, H, W) to (B * N, C, H / stride, W / stride)."""
        return self.layer2(self.layer1(F.relu(self.norm1(self.conv1(planes)))))


@MODELS.register("xmem_tiny", XMemTinySettings)
class XMemTiny(XMem):
    """XMem's computation with 0.8 million parameters at stride 8, or 0.2 million at stride 4."""

    memory_format = torch.channels_last
    settings: XMemTinySettings

    def __init__(self, settings: XMemTinySettings) -> None:
        super().__init__(settings)
        use_channels_last(self)

    def choose_widths(self) -> Widths:
        """Return the channel counts."""
        width, stride = self.settings.width, self.settings.stride
        deep = width * stride // 2
        finer = (2 * width, width) if stride == 8 else (width, width // 2)
        return Widths(
            key=self.settings.key_dim,
            value=self.settings.value_dim,
            hidden=self.settings.hidden_dim,
            features=(deep, *finer),
            value_features=deep,
            decoder=(
                (3 * width, 3 * width // 2, 3 * width // 2)
                if stride == 8
                else (3 * width // 2, 3 * width // 4, width // 2)
            ),
            hidden_inner=3 * width * stride // 8,
            reduction=8,
            stride=stride,
            normalised=True,
        )

    def make_key_encoder(self) -> nn.Module:
        """Return the small trunk that maps frames to `KeyFeatures`."""
        return TinyKeyEncoder(self.settings.width, self.settings.stride)

    def make_key_projection(self) -> KeyProjection:
        """Return what maps features of `key_stage` to key, shrinkage and selection."""
        kernel = 1 if self.settings.key_stage == "early" else 3
        return KeyProjection(self.widths.features[0], self.widths.key, kernel)

    def encode_key(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, KeyFeatures]:
        """Map frames (B, 3, H, W) to key, shrinkage, selection (B, C, h, w) and skip features."""
        features = self.key_encoder(frames)
        early = self.settings.key_stage == "early"
        return *self.key_proj(features.early if early else features.deep), features

    def make_value_encoder(self) -> ValueEncoder:
        """Return the small trunk and head that map frames and masks to values."""
        return TinyValueEncoder(self.settings.width, self.widths, self.settings.single_object)

    @classmethod
    def settings_from_official(cls, state: dict[str, Tensor]) -> dict[str, Any]:
        """Read the sizes back from a state dict; UserError names an entry that is missing."""
        sizes = super().settings_from_official(state)
        early = state["key_proj.key_proj.weight"].shape[-1] == 1
        width = state["value_encoder.conv1.weight"].shape[0]
        stride = 4 if "key_encoder.conv0.weight" in state else 8
        return sizes | {
            "width": width,
            "key_stage": "early" if early else "last",
            "stride": stride,
        }
