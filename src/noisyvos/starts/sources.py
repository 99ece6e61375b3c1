"""Which sources a start reads for a network, without an import of torch."""

from collections.abc import Mapping
from typing import Any

# The ImageNet trunks of each kind of network (models/pretrained.py loads them).
TRUNKS = {
    "xmem": ("resnet50", "resnet18"),
    "stm": ("resnet50",),
    "stm_resnet18": ("resnet18",),
    "afb_urr": ("resnet50",),
    "rhmnet": ("resnet50",),
}
SOURCES_AT_MOST = 2  # dvc.yaml names so many for each start


def sources_of(entry: Mapping[str, Any], model_kind: str) -> list[str]:
    """Return the sources that a start (an entry of starts.yaml) reads for a kind of network.

    A trunk that the network does not have is not read.
    """
    if entry.get("kind") == "trunks":
        names = [entry.get(trunk) for trunk in TRUNKS.get(model_kind, ())]
    else:
        names = [entry.get("source")]
    return [str(name) for name in names if name]
