"""A small AFB-URR for CPU runs: the same bank and decoder around small encoders at stride 8."""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from noisyvos.errors import UserError
from noisyvos.models.afb_urr.network import AFBURR
from noisyvos.models.afb_urr.settings import AFBURRSettings
from noisyvos.models.base import MODELS
from noisyvos.models.resnet import use_channels_last
from noisyvos.models.stm_parts.encoders import Trunk, small_trunk


class AFBURRTinySettings(AFBURRSettings):
    """Size of the small network; trained from scratch."""

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
    local_dim: int = Field(16, ge=1, description="Channels of the refinement.")


@MODELS.register("afb_urr_tiny", AFBURRTinySettings)
class AFBURRTiny(AFBURR):
    """AFB-URR's computation with about 0.6 million parameters."""

    memory_format = torch.channels_last
    settings: AFBURRTinySettings

    def __init__(self, settings: AFBURRTinySettings) -> None:
        super().__init__(settings)
        if settings.same_start:
            self.encoder_m.load_state_dict(self.encoder_q.state_dict(), strict=False)
        use_channels_last(self)

    def initialise(self) -> None:
        """Keep PyTorch's own draw.

        From scratch, the published draw starts with logits so large that training may never
        recover.
        """

    def make_trunk(self) -> Trunk:
        """Return how the encoders are built."""
        own = self.settings
        early = own.key_stage == "early"
        return small_trunk(own.width, own.key_dim, own.value_dim, own.decoder_dim, early)

    def local_channels(self) -> int:
        """Return the width of the refinement."""
        return self.settings.local_dim

    @classmethod
    def settings_from_official(cls, state: dict[str, Tensor]) -> dict[str, Any]:
        """Read the sizes back from a state dict; UserError names an entry that is missing."""
        try:
            early = state["keyval_r4.Key.weight"].shape[-1] == 1
            return {
                "key_stage": "early" if early else "last",
                "key_dim": state["keyval_r4.Key.weight"].shape[0],
                "value_dim": state["keyval_r4.Value.weight"].shape[0],
                "width": state["encoder_q.conv1.weight"].shape[0],
                "decoder_dim": state["decoder.pred2.weight"].shape[1],
                "local_dim": state["decoder.local_pred2.weight"].shape[1],
            }
        except KeyError as error:
            raise UserError(
                f"This is not an AFB-URR checkpoint: the entry {error} is missing."
            ) from None
