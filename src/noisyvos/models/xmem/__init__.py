"""XMem (Cheng and Schwing, "XMem: Long-Term Video Object Segmentation with an Atkinson-Shiffrin
Memory Model", ECCV 2022).

How the code maps to the paper: `encoders` and `decoder` are the networks of section 3.1; `reading`
is the memory readout (section 3.2, equations 1-3); `memory` and `store` are working and long-term
memory with consolidation (section 3.3); the sensory memory's updates (section 3.4) are in
`encoders` (deep update) and `decoder` (every frame); `network` joins them and holds the training
pass; `session` is inference; `tiny` is a small network for CPU runs; `fast` has twins of blocks for
inference.
"""

from noisyvos.models.xmem.network import XMem
from noisyvos.models.xmem.settings import XMemMemory, XMemSettings
from noisyvos.models.xmem.tiny import XMemTiny, XMemTinySettings

__all__ = ["XMem", "XMemMemory", "XMemSettings", "XMemTiny", "XMemTinySettings"]
