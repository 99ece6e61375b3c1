"""A small STM for CPU runs: the same memory and decoder around small encoders at stride 8."""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisyvos.errors import UserError
from noisyvos.models.base import MODELS
from noisyvos.models.resnet import use_channels_last
from noisyvos.models.stm.network import STM
from noisyvos.models.stm.settings import STMSettings
from noisyvos.models.stm_parts.encoders import Trunk, small_trunk


class STMTinySettings(STMSettings):
    """Size of the small network; trained from scratch."""

    # clips are short, and a gradient through the second memory trains it too
    detach_memory: bool = Field(
        False,
        description=(
            "Stop the gradient at memorised masks. The small network lets it through, "
            "which also trains its second memory frame."
        ),
    )
    key_dim: int = Field(32, ge=1, description="Channels of the keys.")
    value_dim: int = Field(64, ge=1, description="Channels of the values.")
    width: int = Field(
        16,
        ge=8,
        multiple_of=8,
        description="Channels at half resolution; doubled at each further halving.",
    )
    decoder_dim: int = Field(48, ge=1, description="Channels of the decoder.")
    # Where keys come from: `last`, as published, is the encoder's output; `early`, our change, is
    # the output of the last stage's first block (see `xmem_tiny`).
    key_stage: Literal["last", "early"] = Field(
        "last",
        description=(
            "Where keys come from. `last` is the encoder's output, as published. "
            "`early` is the first block of its last stage, which sees 41 pixels "
            "instead of 89."
        ),
    )
    # Whether both encoders start from the same weights, as the published ones do from ImageNet.
    same_start: bool = Field(
        False,
        description=(
            "Start both encoders from the same weights, as published networks do from ImageNet."
        ),
    )


@MODELS.register("stm_tiny", STMTinySettings)
class STMTiny(STM):
    """STM's computation with about 0.7 million parameters."""

    memory_format = torch.channels_last
    settings: STMTinySettings

    def __init__(self, settings: STMTinySettings) -> None:
        super().__init__(settings)
        if settings.same_start:
            self.Encoder_M.load_state_dict(self.Encoder_Q.state_dict(), strict=False)
            self.KV_M_r4.load_state_dict(self.KV_Q_r4.state_dict())
        use_channels_last(self)

    def make_trunk(self) -> Trunk:
        """Return how the encoders are built."""
        own = self.settings
        early = own.key_stage == "early"
        return small_trunk(own.width, own.key_dim, own.value_dim, own.decoder_dim, early)

    @classmethod
    def settings_from_official(cls, state: dict[str, Tensor]) -> dict[str, Any]:
        """Read the sizes back from a state dict; UserError names an entry that is missing."""
        try:
            early = state["KV_M_r4.Key.weight"].shape[-1] == 1
            return {
                "key_stage": "early" if early else "last",
                "key_dim": state["KV_M_r4.Key.weight"].shape[0],
                "value_dim": state["KV_M_r4.Value.weight"].shape[0],
                "width": state["Encoder_Q.conv1.weight"].shape[0],
                "decoder_dim": state["Decoder.pred2.weight"].shape[1],
            }
        except KeyError as error:
            raise UserError(
                f"This is not an STM checkpoint: the entry {error} is missing."
            ) from None
