"""Augmentations keep frames, labels and clean labels on the same pixels."""

from itertools import permutations

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from noisyvos.datasets.augmentations import colour, like_pillow
from noisyvos.datasets.augmentations.base import Pictures, as_planes, augment
from noisyvos.datasets.augmentations.geometry import affine, random_crop, warped
from noisyvos.datasets.augmentations.kinds import aoc_net
from noisyvos.errors import UserError
from noisyvos.io.images import four_channels, three_channels
from noisyvos.models.base import Clip
from noisyvos.seeding import numpy_generator


def clip(height: int = 40, width: int = 56) -> Pictures:
    """Frames that are bright exactly where object 1 is, and two sets of labels."""
    masks = np.zeros((3, height, width), np.uint8)
    for t in range(3):
        masks[t, 8 + t : 30 + t, 10 + 2 * t : 34 + 2 * t] = 1
    frames = np.where(masks[..., None] == 1, 230, 20).repeat(3, -1).astype(np.uint8)
    return Pictures(frames, (masks, masks * 3))


def test_planes_are_the_frames_as_they_are_and_bytes_are_divided_by_255_on_the_device():
    frames = [
        np.random.default_rng(seed).integers(0, 256, (3, 9, 14, 3), np.uint8) for seed in (0, 1)
    ]
    wanted = np.stack([each.astype(np.float32) / np.float32(255) for each in frames]).transpose(
        0, 1, 4, 2, 3
    )
    planes = as_planes(frames)
    assert planes.dtype == np.uint8
    labels = np.zeros((2, 3, 9, 14), np.uint8)
    clip = Clip(
        torch.from_numpy(planes),
        torch.from_numpy(labels),
        torch.ones(2, dtype=torch.int64),
        slots=1,
        clean=torch.from_numpy(labels + 1),
    ).to("cpu")
    assert np.array_equal(clip.frames.numpy(), wanted)
    assert clip.masks.dtype == clip.clean.dtype == torch.int64
    assert clip.clean.eq(1).all()
    assert np.array_equal(
        as_planes([each.astype(np.float32) / np.float32(255) for each in frames]), wanted
    )
    cut = as_planes([each[:, 2:7, 3:] for each in frames])
    assert np.array_equal(cut, planes[..., 2:7, 3:])
    mixed = as_planes([frames[0], frames[1].astype(np.float32) / np.float32(255)])
    assert np.array_equal(mixed, wanted)


@pytest.mark.parametrize(
    "move", [(1, 0, 3, 0, 1, -2), (0, 1, 0, 1, 0, 0), (0.9, 0.2, 4.3, -0.1, 1.1, 2.6)]
)
def test_opencv_moves_pictures_as_pillow_does(move):
    y, x = np.mgrid[:60, :60]
    picture = np.stack(
        [120 + 60 * np.sin(x / 9), 120 + 60 * np.cos(y / 7), (x + 2 * y)], -1
    ).astype(np.uint8)
    pillow = np.asarray(
        Image.fromarray(picture).transform(
            (60, 60), Image.Transform.AFFINE, move, Image.Resampling.BILINEAR
        )
    )
    filled = np.pad(pillow.sum(-1) > 0, 1).astype(np.uint8)
    inner = (
        cv2.erode(filled, np.ones((5, 5)))[1:-1, 1:-1] == 1
    )  # the outline is blended with black in OpenCV only
    assert inner.mean() > 0.5
    assert np.abs(warped(picture, move).astype(int) - pillow)[inner].max() <= 3


def rough_picture(height: int, width: int, seed: int) -> np.ndarray:
    """Return what is hard to filter alike: a smooth picture with noise and sharp squares."""
    generator = np.random.default_rng(seed)
    picture = cv2.resize(
        generator.integers(0, 256, (5, 7, 3)).astype(np.uint8), (width, height)
    ).astype(int)
    picture += generator.integers(-30, 30, picture.shape)
    picture[height // 4 : height // 2, width // 4 : width // 2] = 255
    picture[: height // 5, : width // 5] = 0
    return np.clip(picture, 0, 255).astype(np.uint8)


def differs(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return the share of values that differ; by one level at most."""
    gap = np.abs(found.astype(int) - wanted)
    assert gap.max() <= 1
    return float(np.count_nonzero(gap) / gap.size)


@pytest.mark.parametrize(
    ("window", "most"),
    [
        ((90, 130), 0.02),
        ((200, 150), 0.02),
        ((96, 96), 0),
        ((103, 92), 0.25),  # about the size of the result
        ((1, 1), 0),
        ((1, 57), 0.02),
        ((33, 401), 0.02),
    ],
)
def test_frames_are_resized_as_pillow_does(window, most):
    picture = rough_picture(*window, 1)
    wanted = np.asarray(Image.fromarray(picture).resize((96, 96), Image.Resampling.BILINEAR))
    found = like_pillow.resized(four_channels(picture), (96, 96))
    assert differs(three_channels(found), wanted) <= most


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3)])
def test_tiny_frames_are_warped_as_pillow_does(size):
    picture = np.random.default_rng(2).integers(0, 256, (*size, 3), np.uint8)
    move = affine(size[::-1], 7, 3, 1.0)
    wanted = Image.fromarray(picture).transform(
        size[::-1], Image.Transform.AFFINE, move, Image.Resampling.BILINEAR, fillcolor=(1, 2, 3)
    )
    found = like_pillow.warped(four_channels(picture), move, (1, 2, 3))
    assert differs(three_channels(found), np.asarray(wanted)) < 0.2


def test_an_opencv_that_interpolates_in_steps_leaves_frames_to_pillow(monkeypatch):
    picture, move = rough_picture(60, 80, 3), affine((80, 60), 12, 4, 1.0)
    wanted = Image.fromarray(picture).transform(
        (80, 60), Image.Transform.AFFINE, move, Image.Resampling.BILINEAR, fillcolor=(1, 2, 3)
    )
    fine = like_pillow._interpolated
    monkeypatch.setattr(
        like_pillow, "_interpolated", lambda frame, matrix: fine(frame, np.rint(matrix * 32) / 32)
    )
    like_pillow._interpolates_finely.cache_clear()
    try:
        found = like_pillow.warped(four_channels(picture), move, (1, 2, 3))
        assert not like_pillow._interpolates_finely()
    finally:
        like_pillow._interpolates_finely.cache_clear()
    assert np.array_equal(three_channels(found), wanted)


@pytest.mark.parametrize("seed", range(12))
def test_frames_are_warped_as_pillow_does_up_to_their_outline(seed):
    generator = np.random.default_rng(seed)
    height, width = (96, 96) if seed % 2 else (70, 110)
    picture = rough_picture(height, width, seed)
    move = affine(
        (width, height), generator.uniform(-50, 50), generator.uniform(-20, 20), 0.7 + seed % 3 / 5
    )
    move = (
        (1, 0, -7, 0, 1, 5) if seed == 4 else (-1, 0, width, 0, -1, height) if seed == 5 else move
    )
    wanted = np.asarray(
        Image.fromarray(picture).transform(
            (width, height), Image.Transform.AFFINE, move, Image.Resampling.BILINEAR,
            fillcolor=(124, 116, 104),
        )
    )  # fmt: skip
    found = like_pillow.warped(four_channels(picture), move, (124, 116, 104))
    assert differs(three_channels(found), wanted) < 0.02
    outside = (wanted == (124, 116, 104)).all(-1)
    assert np.array_equal((found[..., :3] == (124, 116, 104)).all(-1), outside)
    assert outside.any() == (seed != 5)  # which turns the picture by 180 degrees


@pytest.mark.parametrize("spread", [0.01, 0.1, 0.8])
def test_tables_of_levels_change_colours_as_pillow_does(spread):
    generator = np.random.default_rng(3)
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    smooth = cv2.resize(generator.integers(0, 256, (4, 5, 3)).astype(np.uint8), (50, 40))
    for pixels in (smooth, generator.integers(0, 256, (31, 17, 3)).astype(np.uint8)):
        for order in permutations(range(3)):
            factors = generator.uniform(1 - spread, 1 + spread, 3)
            wanted = Image.fromarray(pixels)
            for step in order:
                wanted = enhancers[step](wanted).enhance(factors[step])
            found = colour.change(pixels, [(step, factors[step]) for step in order])
            assert not np.array_equal(found, pixels)
            assert np.array_equal(found, wanted)
            four = colour.change(four_channels(pixels), [(step, factors[step]) for step in order])
            assert np.array_equal(four[..., :3], wanted)


@pytest.mark.parametrize("amount", [0, 0.2, 0.96, 1, 1.02, 1.02001, 1.25, 2.5])
def test_factors_whose_products_are_nearly_whole_numbers_change_colours_as_pillow_does(amount):
    levels, other = np.mgrid[:256, :256].astype(np.uint8)
    pixels = np.stack([levels, other, levels], -1)  # many differences from the grey value
    for step, enhancer in (
        (colour.BRIGHTNESS, ImageEnhance.Brightness),
        (colour.CONTRAST, ImageEnhance.Contrast),
        (colour.SATURATION, ImageEnhance.Color),
    ):
        wanted = np.asarray(enhancer(Image.fromarray(pixels)).enhance(amount))
        assert np.array_equal(colour.change(pixels, [(step, amount)]), wanted)
        four = colour.change(four_channels(pixels), [(step, amount)])
        assert np.array_equal(four[..., :3], wanted)


def test_light_treats_all_frames_of_a_clip_alike():
    still = Pictures(clip().frames[:1].repeat(3, 0), (clip().masks[0][:1].repeat(3, 0),))
    done = augment("light", still, None, rotate=True, generator=numpy_generator(3))
    assert np.array_equal(done.frames[0], done.frames[1])
    assert np.array_equal(done.frames[0], done.frames[2])


def test_video_moves_frames_apart_only_while_rotation_is_on():
    still = Pictures(clip().frames[:1].repeat(3, 0), (clip().masks[0][:1].repeat(3, 0),))
    moved = augment("video", still, None, rotate=True, generator=numpy_generator(3)).masks[0]
    steady = augment("video", still, None, rotate=False, generator=numpy_generator(3)).masks[0]
    assert not np.array_equal(moved[0], moved[1])
    assert np.array_equal(steady[0], steady[1])


def test_video_stm_moves_frames_apart_and_keeps_the_objects_in_view():
    still = Pictures(clip().frames[:1].repeat(3, 0), (clip().masks[0][:1].repeat(3, 0),))
    done = augment("video_stm", still, None, rotate=True, generator=numpy_generator(3))
    assert not np.array_equal(done.masks[0][0], done.masks[0][1])
    assert done.frames.min() == 0  # black outside the picture
    far = np.zeros((3, 200, 300), np.uint8)
    far[:, 100:120, 160:190] = 1
    far[:, :20, :20] = 255  # void is no object
    seen = [
        augment(
            "video_stm",
            Pictures(far[..., None].repeat(3, -1), (far,)),
            (96, 96),
            rotate=True,
            generator=numpy_generator(draw),
        )
        for draw in range(20)
    ]
    assert all((picture == 1).any() for each in seen for picture in each.masks[0])
    assert {tuple(each.masks[0][0].shape) for each in seen} == {(96, 96)}


def test_video_afb_leaves_the_first_frame_and_moves_the_rest_apart():
    still = Pictures(clip().frames[:1].repeat(3, 0), (clip().masks[0][:1].repeat(3, 0),))
    done = augment("video_afb", still, None, rotate=True, generator=numpy_generator(3))
    assert len({mask.tobytes() for mask in done.masks[0]}) == 3
    assert done.frames[0].min() > 0  # black only where an affine map left something open
    assert done.frames[1:].min() == 0
    assert (
        done.to_source[0, 0, 1] == done.to_source[0, 1, 0] == 0
    )  # cropped and enlarged, not turned


def test_video_afb_takes_the_middle_where_its_crop_never_fits():
    wide = Pictures(np.full((2, 48, 86, 3), 9, np.uint8), (np.ones((2, 48, 86), np.uint8),))
    for draw in range(5):
        done = augment("video_afb", wide, (40, 40), rotate=True, generator=numpy_generator(draw))
        assert done.to_source[0].tolist() == [
            [50 / 40, 0, 18],
            [0, 48 / 40, 0],
        ]  # 48x50 around the middle


def test_video_afb_near_looks_for_an_object():
    corner = np.zeros((2, 100, 100), np.uint8)
    corner[:, 40:60, 10:25] = 1
    corner[:, 90:] = 255  # void is no object
    seen = 0
    for draw in range(20):
        video = Pictures(corner[..., None].repeat(3, -1), (corner,))
        done = augment(
            "video_afb_near", video, (40, 40), rotate=False, generator=numpy_generator(draw)
        )
        share = np.linalg.det(done.to_source[:, :, :2]) * 40 * 40 / 100**2
        assert (
            0.26 < share.min() <= share.max() < 0.56
        )  # the affine map scales by up to 1.05 each way
        seen += int((done.masks[0] == 1).any((1, 2)).sum())
    assert seen >= 38  # of 40 frames; ten draws may all miss


def test_video_aoc_looks_for_an_object_and_treats_all_frames_alike(monkeypatch):
    corner = np.zeros((2, 120, 200), np.uint8)
    corner[0, :20, :20] = 1  # the second frame plays no part
    corner[:, 110:] = 255  # void is no object
    video = Pictures(corner[..., None].repeat(3, -1), (corner,))

    def drawn() -> list[Pictures]:
        return [
            augment("video_aoc", video, (93, 93), rotate=True, generator=numpy_generator(draw))
            for draw in range(40)
        ]

    def found(clips: list[Pictures]) -> int:
        return sum(np.count_nonzero(done.masks[0][0] == 1) > 4 for done in clips)

    clips = drawn()
    assert all(np.array_equal(*done.to_source) for done in clips)
    across, down = (np.array([done.to_source[0][axis, axis] for done in clips]) for axis in (0, 1))
    assert np.abs(across) == pytest.approx(down, rel=0.01)
    assert 10 < (across < 0).sum() < 30
    enlarged = 120 / 96 / down  # 96 = 480 x 93 / 465
    assert 0.98 < enlarged.min() < 1.1
    assert 1.2 < enlarged.max() < 1.31
    monkeypatch.setattr(aoc_net, "TRIES", 1)
    assert found(clips) > found(drawn()) + 5


def test_video_aoc_resizes_what_its_crop_does_not_fit_into():
    done = augment("video_aoc", clip(40, 56), (30, 200), rotate=False, generator=numpy_generator(1))
    assert done.frames.shape == (3, 30, 200, 3)
    assert abs(done.to_source[0][0, 0]) < 0.5 * done.to_source[0][1, 1]  # stretched across


def test_a_crop_larger_than_the_frames_is_refused():
    with pytest.raises(UserError, match="64x64 does not fit frames of 40x56: lower `crop`"):
        random_crop(clip(), (64, 64), numpy_generator(0))


@pytest.mark.parametrize(
    ("name", "crop", "off"),
    [
        ("none", (32, 40), 0),
        ("light", (32, 40), 0),
        ("still", (32, 40), 0),
        ("video", (96, 96), 2),
        ("video", None, 2),
        ("video_stm", (32, 40), 4),
        ("video_aoc", (96, 96), 2),
        ("video_aoc", (40, 100), 2),
    ],
)
def test_the_recorded_geometry_leads_every_pixel_back_to_its_source(name, crop, off):
    """Labels that are their own coordinates, from 1.

    Exact where pixels only move, as every further resampling rounds.
    """
    y, x = (
        np.broadcast_to(axis, (3, 120, 180)).astype(np.uint8)
        for axis in np.ogrid[:1, 1:121, 1:181][1:]
    )
    for draw in range(6):
        picture = Pictures(np.zeros((3, 120, 180, 3), np.uint8), (x, y))
        done = augment(name, picture, crop, rotate=True, generator=numpy_generator(draw))
        height, width = done.masks[0].shape[1:]
        rows, columns = np.mgrid[:height, :width] + 0.5
        points = np.stack([columns, rows, np.ones_like(rows)], -1)
        for t in range(3):
            there = points @ done.to_source[t].T
            shown = done.masks[0][t] > 0  # not what was filled in outside the picture
            found = np.stack([done.masks[0][t], done.masks[1][t]], -1) - 1.0
            distance = np.abs(np.floor(there) - found)[shown]
            assert shown.mean() > 0.3
            assert distance.max() <= off, (name, draw, t)
            inside = ((there > 0) & (there < (180, 120))).all(-1)
            assert off or np.array_equal(inside, shown)
