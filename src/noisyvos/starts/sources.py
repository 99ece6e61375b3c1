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
DEEPLAB = ("aoc_net",)  # kinds of networks with the backbone of DeepLabV3+
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


def misfit(entry: Mapping[str, Any], model_kind: str) -> str:
    """Return why a start (an entry of starts.yaml) cannot fill a kind of network; empty if it can.

    Whether the entries of a checkpoint fit shows only when the file is read.
    """
    kind = entry.get("kind")
    if kind == "deeplab" and model_kind not in DEEPLAB:
        return f"it has no DeepLabV3+ backbone (only {', '.join(DEEPLAB)} has)"
    networks = entry.get("networks", ())
    if kind == "checkpoint" and networks and model_kind not in networks:
        return f"the file is for {', '.join(networks)}"
    if kind != "trunks":
        return ""
    if model_kind not in TRUNKS:
        return f"it has no ImageNet trunk (these have: {', '.join(sorted(TRUNKS))})"
    for trunk in TRUNKS[model_kind]:
        if not entry.get(trunk):
            return f"it needs the trunk {trunk}, for which the start names no source"
    return ""
