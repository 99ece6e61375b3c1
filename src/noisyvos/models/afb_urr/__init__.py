"""AFB-URR (Liang et al., "Video Object Segmentation with Adaptive Feature Bank and
Uncertain-Region Refinement", NeurIPS 2020).

How the code maps to the paper: `bank` is the adaptive feature bank (section 3.2); `decoder` is the
uncertain-region refinement (section 3.3); `network` joins encoders and decoder and holds the
training pass (section 3.4); `session` is inference on a video; `tiny` is a small network for CPU
runs. Encoders, memory read and coarse decoder are STM's, in `noisyvos.models.stm_parts`.
"""

from noisyvos.models.afb_urr.network import AFBURR
from noisyvos.models.afb_urr.settings import AFBURRMemory, AFBURRSettings
from noisyvos.models.afb_urr.tiny import AFBURRTiny, AFBURRTinySettings

__all__ = ["AFBURR", "AFBURRMemory", "AFBURRSettings", "AFBURRTiny", "AFBURRTinySettings"]
