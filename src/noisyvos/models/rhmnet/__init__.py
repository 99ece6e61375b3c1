"""RHMNet (arXiv 2303.14384): video object segmentation from scribbles with a
reliability-hierarchical memory.

How the code maps to the paper: `transformer` has the two layers that read from memory, first for
reliable regions, then for whole targets; `memory` has the labels that mark memory entries and which
entries stay; `convolutions` has the trunk and both heads; `network` joins them and holds the
training pass with the region and consistency losses; `session` is inference; `tiny` is a small
network for CPU runs.
"""

from noisyvos.models.rhmnet.network import RHMNet
from noisyvos.models.rhmnet.settings import RHMNetMemory, RHMNetSettings
from noisyvos.models.rhmnet.tiny import RHMNetTiny, RHMNetTinySettings

__all__ = ["RHMNet", "RHMNetMemory", "RHMNetSettings", "RHMNetTiny", "RHMNetTinySettings"]
