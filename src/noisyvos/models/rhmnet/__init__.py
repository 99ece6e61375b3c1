"""RHMNet (arXiv 2303.14384): segmentation from scribbles with a memory ordered by reliability, and a small sibling for CPU runs."""

from noisyvos.models.rhmnet.network import RHMNet
from noisyvos.models.rhmnet.settings import RHMNetMemory, RHMNetSettings
from noisyvos.models.rhmnet.tiny import RHMNetTiny, RHMNetTinySettings

__all__ = ["RHMNet", "RHMNetMemory", "RHMNetSettings", "RHMNetTiny", "RHMNetTinySettings"]
