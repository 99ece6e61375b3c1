"""XMem (Cheng and Schwing, ECCV 2022): the network, its memory and its small sibling for CPU runs."""

from noisyvos.models.xmem.network import XMem, XMemSettings
from noisyvos.models.xmem.tiny import XMemTiny, XMemTinySettings

__all__ = ["XMem", "XMemSettings", "XMemTiny", "XMemTinySettings"]
