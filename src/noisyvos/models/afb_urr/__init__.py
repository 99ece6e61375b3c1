"""AFB-URR (Liang et al., NeurIPS 2020): an adaptive bank of features as memory, and a second look at uncertain regions."""

from noisyvos.models.afb_urr.network import AFBURR
from noisyvos.models.afb_urr.settings import AFBURRMemory, AFBURRSettings
from noisyvos.models.afb_urr.tiny import AFBURRTiny, AFBURRTinySettings

__all__ = ["AFBURR", "AFBURRMemory", "AFBURRSettings", "AFBURRTiny", "AFBURRTinySettings"]
