"""STM (Oh et al., "Video Object Segmentation using Space-Time Memory Networks", ICCV 2019).

How the code maps to the paper: encoders, memory read and decoder (sections 3.1 to 3.3) are in
`noisyvos.models.stm_parts`; `network` joins them and holds the training pass (sections 3.4 and
3.5); `session` is inference (section 3.6); `resnest` is a published variant with ResNeSt-101
encoders; `tiny` is a small network for CPU runs. Training and evaluation follow the code released
for COCO and VISOR.
"""

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
