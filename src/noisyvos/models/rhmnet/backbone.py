"""RHMNet's trunk: ResNet-50 up to stride 16 with batch normalisation that is neither trained nor updated."""

import copy
from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models import resnet
from noisyvos.models.fast.folding import fold_stage


@dataclass(frozen=True)
class Features:
    """What the network sees of N frames; `tokens` are its own reading of the deep features."""

    fine: Tensor  # (N, C, 4h, 4w)
    middle: Tensor  # (N, C, 2h, 2w)
    deep: Tensor  # (N, C, h, w)
    tokens: Tensor  # (N, h * w, C)

    @property
    def grid(self) -> tuple[int, int]:
        """The height and width of the deep features."""
        return self.deep.shape[-2], self.deep.shape[-1]

    def at(self, time: int, length: int) -> "Features":
        """Return the features of frame `time` of every clip: rows are clips of `length` frames."""
        return Features(
            *(getattr(self, name)[time::length] for name in ("fine", "middle", "deep", "tokens"))
        )


class Backbone(nn.Module):
    """A frame to features at strides 4, 8 and 16; `layer0` holds the first convolution."""

    channels = (256, 512, 1024)  # fine, middle, deep
    stride = 16

    def __init__(self) -> None:
        super().__init__()
        self.layer0 = nn.Sequential(resnet.stem_convolution(3), resnet.FrozenNorm(64))
        self.layer1 = resnet.stage(resnet.Bottleneck, 64, 64, 3, 1, resnet.FrozenNorm)
        self.layer2 = resnet.stage(resnet.Bottleneck, 256, 128, 4, 2, resnet.FrozenNorm)
        self.layer3 = resnet.stage(resnet.Bottleneck, 512, 256, 6, 2, resnet.FrozenNorm)
        resnet.initialise(self)

    def folded(self) -> Self:
        """Return a trunk for inference that shares these weights but for the stages, whose normalisation is folded in."""
        twin = copy.copy(self)
        twin._modules = self._modules | {
            name: fold_stage(self._modules[name]) for name in ("layer1", "layer2", "layer3")
        }
        return twin

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map normalised frames (N, 3, H, W) to fine, middle and deep features."""
        fine = self.layer1(F.max_pool2d(F.relu(self.layer0(frames)), 3, 2, 1))
        middle = self.layer2(fine)
        return fine, middle, self.layer3(middle)
