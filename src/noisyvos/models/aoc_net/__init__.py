"""AOC-Net: proxies at three levels, matched and calibrated per object (Xu et al., ACM MM 2022, arXiv 2207.00887)."""

from noisyvos.models.aoc_net.network import AOCNet

__all__ = ["AOCNet"]
