"""3x3 convolutions of many channels with a quarter of the multiplications.

Winograd's F(4x4, 3x3); Lavin and Gray, CVPR 2016. PyTorch's CPU kernels multiply directly. Here
tiles of 6x6 inputs and the filters are transformed, multiplied position by position, and
transformed back to tiles of 4x4 outputs: 36 products instead of 144. Results are equal up to
rounding: the largest error is about 1e-5 of the largest output; that of the direct way is 1e-6.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

MIN_CHANNELS = 128  # with fewer, the transformations cost what the multiplications save
TILES = 128  # tiles at a time, so that intermediate results stay in the cache
FEW_TILES = 256  # so many are done at once
_INPUT = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_FILTER = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
_OUTPUT = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


def _both_axes(rows: list[list[int]]) -> Tensor:
    matrix = torch.tensor(rows, dtype=torch.float32)
    return torch.kron(matrix, matrix)


@dataclass(frozen=True)
class Winograd:
    """A 3x3 convolution of stride 1 and padding 1 on a CPU, in float32.

    No gradient flows through it.
    """

    filters: Tensor  # (36, C_in, C_out)
    bias: Tensor  # (C_out,)
    to_tiles: Tensor  # (36, 36)
    from_tiles: Tensor  # (16, 36)

    @staticmethod
    def pays(weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]) -> bool:
        """Return whether a convolution with this weight (C_out, C_in, h, w) gets faster."""
        here = weight.device.type == "cpu" and weight.dtype == torch.float32
        fits = weight.shape[2:] == (3, 3) and tuple(stride) == (1, 1) and tuple(padding) == (1, 1)
        return here and fits and min(weight.shape[:2]) >= MIN_CHANNELS

    @classmethod
    @torch.no_grad()
    def of(cls, weight: Tensor, bias: Tensor) -> Self:
        """Return the convolution of weight (C_out, C_in, 3, 3) and bias (C_out,).

        It takes four times the weight's memory.
        """
        outputs, inputs = weight.shape[:2]
        matrix = torch.tensor(_FILTER, dtype=torch.float64)
        both = torch.kron(matrix, matrix).float()  # (36, 9)
        filters = (both @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(36, inputs, outputs)
        return cls(filters, bias.detach(), _both_axes(_INPUT), _both_axes(_OUTPUT))

    def split(self, inputs: int) -> tuple[Self, Self]:
        """Return the shares of the first `inputs` channels and of the others.

        The sum of both results is the whole result.
        """
        first = replace(self, filters=self.filters[:, :inputs])
        return first, replace(
            self, filters=self.filters[:, inputs:], bias=torch.zeros_like(self.bias)
        )

    @torch.no_grad()
    def __call__(self, x: Tensor, *, relu: bool = False, plus: Tensor | None = None) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H, W), channels last.

        Adds `plus` (N or 1 maps), then applies ReLU, if asked to.
        """
        count, inputs, height, width = x.shape
        outputs = self.filters.shape[2]
        down, across = -(-height // 4), -(-width // 4)
        if x.stride(1) != 1:
            x = x.contiguous(memory_format=torch.channels_last)
        x = x.permute(0, 2, 3, 1)
        result = x.new_empty(count, 4 * down, 4 * across, outputs)
        step = down if down * across <= FEW_TILES else max(1, TILES // across)
        band = x.new_zeros(4 * step + 2, 4 * across + 2, inputs)  # some rows of tiles, padded
        # the same memory again and again, which stays in the cache
        most = 36 * step * across * max(inputs, outputs)
        one, other = x.new_empty(most), x.new_empty(most)
        for index in range(count):
            for start in range(0, down, step):
                rows = min(step, down - start)
                tiles, top, bottom = rows * across, 4 * start, min(4 * (start + rows), height)
                above, below = max(0, top - 1), min(bottom + 1, height)
                padded = band[: 4 * rows + 2]
                padded[: above - top + 1] = 0
                padded[above - top + 1 : below - top + 1, 1 : 1 + width] = x[index, above:below]
                padded[below - top + 1 :] = 0
                # (6, 6, rows, across, C_in)
                windows = padded.unfold(0, 6, 4).unfold(1, 6, 4).permute(3, 4, 0, 1, 2)
                gathered = _part(one, *windows.shape).copy_(windows).view(36, -1)
                transformed = _part(other, 36, tiles, inputs)
                torch.mm(self.to_tiles, gathered, out=transformed.view(36, -1))
                products = _part(one, 36, tiles, outputs)
                torch.bmm(transformed, self.filters, out=products)
                parts = _part(other, 16, tiles * outputs)
                torch.mm(self.from_tiles, products.view(36, -1), out=parts)
                place = result[index, top : 4 * (start + rows)].view(rows, 4, across, 4, outputs)
                tiled = parts.view(4, 4, rows, across, outputs).permute(2, 0, 3, 1, 4)
                torch.add(tiled, self.bias, out=place)
                inside = result[index, top:bottom, :width]
                if plus is not None:
                    inside.add_(plus[index % len(plus), :, top:bottom].permute(1, 2, 0))
                if relu:
                    inside.relu_()
        return result[:, :height, :width].permute(0, 3, 1, 2)


def _part(memory: Tensor, *shape: int) -> Tensor:
    """Return the beginning of a flat tensor in another shape."""
    return memory[: math.prod(shape)].view(shape)
