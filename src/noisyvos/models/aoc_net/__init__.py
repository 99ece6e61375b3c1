"""AOC-Net (Xu et al., "Towards Robust Video Object Segmentation with Adaptive Object Calibration",
ACM MM 2022, arXiv 2207.00887).

How the code maps to the paper: `references` holds reference frames and adaptive object proxies
(AOP); `matching` computes the proto-maps at pixel, proxy and object level; `blocks` has the
discriminative object calibrator and `decoder` applies it, with the correction by earlier frames;
`deeplab` is the backbone; `network` joins them and holds the training pass; `session` is inference
with the reference pool and its uncertainty filter.
"""

from noisyvos.models.aoc_net.network import AOCNet
from noisyvos.models.aoc_net.tiny import AOCNetTiny

__all__ = ["AOCNet", "AOCNetTiny"]
