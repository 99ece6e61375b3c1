"""The faster twin of the decoder's residual block, for inference."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisyvos.models.fast import Replacements
from noisyvos.models.fast.convolutions import fuse
from noisyvos.models.stm_parts.decoder import ResidualBlock


class FusedResidualBlock(nn.Module):
    """A residual block whose convolutions apply ReLU and add the shortcut while they write."""

    def __init__(self, block: ResidualBlock, half: torch.dtype | None = None) -> None:
        super().__init__()
        self.rectified = block.rectified
        self.conv1, self.conv2 = fuse(block.conv1, half), fuse(block.conv2, half)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) as the block does."""
        positive = F.relu(x)
        return self.conv2(self.conv1(positive, relu=True), plus=positive if self.rectified else x)


BLOCKS: Replacements = {ResidualBlock: FusedResidualBlock}
