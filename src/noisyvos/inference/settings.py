"""How networks are evaluated: the entries of params/eval.yaml."""

from typing import Any

from pydantic import Field

from noisyvos.devices import Amp
from noisyvos.registry import Settings


class Evaluation(Settings):
    """Working size and memory settings; what is left out is the network's default."""

    size: int | None = Field(None, ge=1)  # shorter side to work at, None = as is
    amp: Amp = (
        False  # half precision, on a GPU only: true is fp16, as published results are computed
    )
    memory: dict[str, dict[str, Any]] = Field(
        default_factory=dict
    )  # by kind of network, so that one entry serves several
