"""State in source-image coordinates: warps there and back, and what is kept."""

import numpy as np
import pytest
import torch

from noisyvos.errors import UserError
from noisyvos.methods.pixel_memory import PixelMemory, pick, places, warp, with_background
from noisyvos.models.base import Clip, Origin


def ramp(height: int, width: int) -> torch.Tensor:
    """Return the number of the stride-4 cell of every source pixel, (height, width)."""
    columns = -(-width // 4)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (y // 4) * columns + x // 4


def test_a_crop_and_a_flip_read_the_cells_of_their_pixels():
    source = ramp(18, 30)
    crop = torch.tensor([[1.0, 0, 7], [0, 1, 3]])
    assert torch.equal(warp(crop, (12, 16), (18, 30)).cells, source[3:15, 7:23])
    mirrored = torch.tensor([[-1.0, 0, 23], [0, 1, 3]])
    assert torch.equal(warp(mirrored, (12, 16), (18, 30)).cells, source[3:15, 7:23].flip(1))


def test_a_cell_is_written_by_the_pixel_at_its_middle():
    crop = torch.tensor([[1.0, 0, 4], [0, 1, 4]])
    pixels = warp(crop, (8, 12), (18, 30)).pixels
    assert pixels.shape == (5, 8)
    assert pixels[1, 1] == 2 * 12 + 2  # the middle (6, 6) lies at (2, 2) of the crop
    assert pixels[2, 3] == 6 * 12 + 10
    assert (pixels >= 0).sum() == 2 * 3  # the crop holds 2 x 3 whole cells
    halved = torch.tensor([[2.0, 0, 0], [0, 2, 0]])
    assert warp(halved, (9, 15), (18, 30)).pixels[0, 0] == 1 * 15 + 1


@pytest.mark.parametrize(
    "matrix",
    [
        [[1, 0, 4], [0, 1, 8]],
        [[-1, 0, 36], [0, 1, 0]],
        [[0.5, 0, 4], [0, 0.5, 4]],
        [[0.8, -0.6, 20], [0.6, 0.8, 2]],
    ],
)
def test_what_is_written_is_read_back_at_the_same_place(matrix):
    there = warp(torch.tensor(matrix, dtype=torch.float32), (24, 32), (40, 48))
    shown = torch.arange(24 * 32, dtype=torch.float64)[None]  # every pixel its own number
    written = pick(shown, there.pixels, -1)
    back = pick(written.flatten(1), there.cells, -1)[0]
    seen = back >= 0
    assert seen.float().mean() > 0.4
    y, x = torch.meshgrid(torch.arange(24), torch.arange(32), indexing="ij")
    scale = float(np.linalg.norm(np.array(matrix)[:, 0]))
    reach = 2 * 2**0.5 / scale + 1  # from the corner of a cell to its middle, and the nearest pixel
    assert torch.hypot((back // 32 - y)[seen], (back % 32 - x)[seen]).max() <= reach


def test_state_comes_back_from_its_dictionary_and_unknown_maps_are_zero():
    first, second = PixelMemory(0.5, 0.5), PixelMemory(0.5, 0.5)
    second.load_state_dict(first.state_dict())
    assert second.read(["a"], 6)[0].sum() == 0
    values, visits = (
        np.array([[0, 1, 51 / 255, 0, 0, 0]], np.float32),
        np.array([[0, 1, 2, 3, 255, 0]], np.uint8),
    )
    first.write(["a"], values, visits)
    first.write(["b"], values[:, ::-1], visits[:, ::-1])
    second.load_state_dict(first.state_dict())
    read = second.read(["b", "c", "a"], 6)
    assert np.array_equal(read[0], np.concatenate([values[:, ::-1], 0 * values, values]))
    assert np.array_equal(read[1], np.concatenate([visits[:, ::-1], 0 * visits, visits]))


def test_keys_name_dataset_sequence_frame_and_object():
    origin = Origin(torch.eye(2, 3).expand(2, 3, 2, 3), ((8, 8), (8, 8)), ((9, 4), ()))
    clip = Clip(
        torch.zeros(2, 3, 3, 8, 8),
        torch.zeros(2, 3, 8, 8),
        torch.tensor([2, 1]),
        2,
        (("d", "s", "07", "05", "03"),) * 2,
        None,
        origin,
    )
    (only,) = places(clip, 2, "elr")
    assert (only.sample, only.keys) == (0, ["d/s/03/9", "d/s/03/4"])
    with pytest.raises(UserError, match="need `keys` and `origin`"):
        list(places(Clip(clip.frames, clip.masks, clip.num_objects, 2), 1, "elr"))


def test_the_background_is_what_the_objects_leave():
    full = with_background(
        torch.tensor([[0.25, 0.75], [0.25, 0.75]]), torch.tensor([0.75, 0.75]), 4
    )
    assert torch.equal(full, torch.tensor([[0.25, 0.0], [0.25, 0.375], [0.25, 0.375], [0, 0]]))
