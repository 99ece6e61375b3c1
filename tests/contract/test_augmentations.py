"""What every registered augmentation keeps: shapes, types, determinism, and index masks."""

import numpy as np
import pytest

from noisyvos.datasets.augmentations.base import (
    AUGMENTATIONS,
    Pictures,
    as_planes,
    augment,
    resizes_frames,
)
from noisyvos.errors import UserError
from noisyvos.seeding import numpy_generator

IDS = (0, 3, 7, 200)


def bright_clip(height: int = 40, width: int = 56) -> Pictures:
    """Return frames that are bright exactly where object 1 is, and two mask sets."""
    masks = np.zeros((3, height, width), np.uint8)
    for t in range(3):
        masks[t, 8 + t : 30 + t, 10 + 2 * t : 34 + 2 * t] = 1
    frames = np.where(masks[..., None] == 1, 230, 20).repeat(3, -1).astype(np.uint8)
    return Pictures(frames, (masks, masks * 3))


def many_objects(height: int = 60, width: int = 80) -> Pictures:
    """Return a clip of noise whose masks hold ids far apart, beside each other."""
    generator = np.random.default_rng(0)
    masks = np.repeat(np.arange(width)[None] // 20, height, axis=0)[None].repeat(3, 0)
    frames = generator.integers(0, 256, (3, height, width, 3), np.uint8)
    return Pictures(frames, (np.array(IDS, np.uint8)[masks],))


@pytest.mark.parametrize("crop", [None, (32, 40)])
@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_frames_and_labels_stay_together(name, crop):
    for draw in range(8):
        done = augment(name, bright_clip(), crop, rotate=True, generator=numpy_generator(draw))
        size = crop or (40, 56)
        assert done.frames.shape == (3, *size, 3)
        (planes,) = as_planes([done.frames])
        assert planes.shape == (3, 3, *size)
        assert planes.dtype in (np.uint8, np.float32)
        planes = planes / np.float32(255 if planes.dtype == np.uint8 else 1)
        assert planes.min() >= 0
        assert planes.max() <= 1
        first, second = done.masks
        assert first.shape == (3, *size)
        given = first != 255
        assert given.all() or name.endswith(("scribbles", "warped"))
        assert set(np.unique(first[given])) <= {0, 1}
        assert np.array_equal(first[given] * 3, second[given])
        bright = planes.mean(1) > 0.5
        agree = (bright == (first == 1))[given].mean()
        assert agree > (0.97 if name in ("none", "light", "still") else 0.85), (name, draw, agree)


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_masks_stay_index_masks(name):
    for draw in range(4):
        done = augment(name, many_objects(), (48, 56), rotate=True, generator=numpy_generator(draw))
        assert done.frames.dtype in (np.uint8, np.float32)
        (mask,) = done.masks
        assert mask.dtype == np.uint8
        assert mask.shape == (3, 48, 56)
        assert set(np.unique(mask)) <= {*IDS, 255}  # a mix of 3 and 7 would be a third id
        assert len(set(np.unique(mask)) - {0, 255}) >= 1


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_the_same_generator_gives_the_same_clip_and_leaves_its_input_alone(name):
    given = bright_clip()
    one, two, other = (
        augment(name, given, (32, 32), rotate=True, generator=numpy_generator(key))
        for key in (1, 1, 2)
    )
    assert np.array_equal(one.frames, two.frames)
    assert np.array_equal(one.masks[0], two.masks[0])
    assert not np.array_equal(one.frames, other.frames)
    assert np.array_equal(given.frames, bright_clip().frames)
    assert np.array_equal(given.masks[0], bright_clip().masks[0])


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_a_crop_larger_than_the_frames_is_reached_or_refused(name):
    if resizes_frames(name):
        done = augment(name, bright_clip(), (80, 96), rotate=True, generator=numpy_generator(0))
        assert done.frames.shape == (3, 80, 96, 3)
        assert done.masks[0].shape == (3, 80, 96)
    else:
        with pytest.raises(UserError, match="does not fit frames of 40x56"):
            augment(name, bright_clip(), (80, 96), rotate=True, generator=numpy_generator(0))


def test_an_unknown_name_is_refused_with_the_nearest_known_one():
    with pytest.raises(UserError, match="Did you mean 'video_stm'"):
        AUGMENTATIONS.get("video_smt")
