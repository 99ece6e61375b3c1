"""Inference surgery: networks that run faster without computing anything else.

`prepare(network)` is the only switch. It copies a network's module tree, shares its weights, and
replaces blocks by faster twins: batch normalisation folded into convolutions, ReLU and sums fused
into them, and large 3x3 convolutions done by Winograd's algorithm. A network's code holds the plain
path only.
"""

from noisyvos.models.fast.surgery import Replacements, Twins, prepare

__all__ = ["Replacements", "Twins", "prepare"]
