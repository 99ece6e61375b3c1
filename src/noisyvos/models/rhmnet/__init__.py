"""RHMNet (arXiv 2303.14384): segmentation from scribbles with a memory ordered by reliability."""

from noisyvos.models.rhmnet.network import RHMNet
from noisyvos.models.rhmnet.settings import RHMNetMemory, RHMNetSettings

__all__ = ["RHMNet", "RHMNetMemory", "RHMNetSettings"]
