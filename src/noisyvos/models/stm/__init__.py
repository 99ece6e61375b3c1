"""STM (Oh et al., ICCV 2019), as trained on COCO and VISOR: the networks, their memory and a small sibling for CPU runs."""

from noisyvos.models.stm.network import STM, STMResNet18
from noisyvos.models.stm.resnest import STMResNeSt101
from noisyvos.models.stm.settings import STMMemory, STMSettings
from noisyvos.models.stm.tiny import STMTiny, STMTinySettings

__all__ = [
    "STM",
    "STMMemory",
    "STMResNeSt101",
    "STMResNet18",
    "STMSettings",
    "STMTiny",
    "STMTinySettings",
]
