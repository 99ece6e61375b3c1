"""XMem's pseudo-videos: thin-plate splines against hand-computed values, and their recipe."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from still_images import write_images

from noisyvos.datasets.augmentations.colour import jitter
from noisyvos.datasets.base import DATASETS, Conversion
from noisyvos.params.entries import read_family
from noisyvos.stages import synth
from noisyvos.synth.kinds.xmem_static import StaticClipSettings, affine_coefficients, xmem_static
from noisyvos.synth.recipe import RECIPES
from noisyvos.synth.shards import ClipShards
from noisyvos.synth.thin_plate import (
    CONTROL_POINTS,
    backward_map,
    evaluate,
    fit,
    kernel,
    random_map,
)

SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def test_kernel_has_the_published_values() -> None:
    np.testing.assert_allclose(
        kernel(np.array([0.0, 1.0, 2.0])),
        [0.0, math.log(1 + 1e-6), 4 * math.log(2 + 1e-6)],
        rtol=1e-12,
    )


def test_spline_of_one_raised_corner_has_the_weights_computed_by_hand() -> None:
    """On the unit square the weights must be w (1, -1, -1, 1).

    No other weights have a sum and first moments of zero. Corner i, with sign s_i, then gets
    s_i w (U(sqrt 2) - 2 U(1)) from the kernels. The sum with these signs cancels the plane, so the
    values (1, 0, 0, 0) give 4 w (U(sqrt 2) - 2 U(1)) = 1. The rest is the plane 3/4 - x/2 - y/2.
    """
    values = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    diagonal, side = 2 * math.log(math.sqrt(2) + 1e-6), math.log(1 + 1e-6)
    weight = 1 / (4 * (diagonal - 2 * side))
    found = fit(SQUARE, values)
    np.testing.assert_allclose(found[:4, 0], [weight, -weight, -weight, weight], rtol=1e-9)
    np.testing.assert_allclose(found[4:, 0], [0.75, -0.5, -0.5], atol=1e-9)
    np.testing.assert_allclose(found[:, 1], 0, atol=1e-12)
    middle = evaluate(found, SQUARE, np.array([0.5]), np.array([0.5]))
    np.testing.assert_allclose(middle[0, 0], [0.25, 0], atol=1e-9)  # the four kernels cancel there


def test_splines_interpolate_their_control_points_and_reproduce_planes() -> None:
    generator = np.random.default_rng(0)
    points, values = generator.random((12, 2)), generator.normal(size=(12, 2))
    found = fit(points, values)
    for point, value in zip(points, values):
        np.testing.assert_allclose(
            evaluate(found, points, point[:1], point[1:])[0, 0], value, atol=1e-9
        )
    np.testing.assert_allclose(found[:12].sum(0), 0, atol=1e-9)
    np.testing.assert_allclose(points.T @ found[:12], 0, atol=1e-9)
    plane = np.column_stack([1 + 2 * points[:, 0] - points[:, 1], 3 * points[:, 1]])
    np.testing.assert_allclose(
        fit(points, plane), [*np.zeros((12, 2)), [1, 0], [2, 0], [-1, 3]], atol=1e-9
    )


def test_without_displacement_every_pixel_stays_at_its_share_of_the_sides() -> None:
    points = np.random.default_rng(1).random((12, 2))
    x, y = backward_map(points, points, 5, 9)
    np.testing.assert_allclose(x, np.tile(np.linspace(0, 9, 9), (5, 1)), atol=1e-5)
    np.testing.assert_allclose(y, np.tile(np.linspace(0, 5, 5)[:, None], (1, 9)), atol=1e-5)


def test_a_moved_point_takes_its_pixel_along() -> None:
    """Source (0.5, 0.5) moves right by 0.25 of 8 pixels: column 6 of 9 shows what was at 4."""
    source = np.concatenate([SQUARE, [[0.5, 0.5]]])
    destination = np.concatenate([SQUARE, [[0.75, 0.5]]])
    x, y = backward_map(source, destination, 9, 9)
    assert (x[4, 6], y[4, 6]) == pytest.approx(
        (4.5, 4.5), abs=1e-5
    )  # half of the side, which counts 9
    assert (x[0, 0], x[0, 8], y[8, 0]) == pytest.approx((0, 9, 9), abs=1e-5)


def test_random_maps_move_pixels_by_a_few_hundredths() -> None:
    generator = np.random.default_rng(2)
    still = np.tile(np.linspace(0, 64, 64), (64, 1))
    spreads = [np.abs(random_map(generator, 64, 64)[0] - still).mean() / 64 for _ in range(40)]
    assert 0.008 < np.median(spreads) < 0.05
    assert CONTROL_POINTS == 12


def test_affine_maps_turn_shear_and_scale_about_the_middle() -> None:
    a, b, c, d, e, f = affine_coefficients((80, 60), 0, 0, 2)
    assert (a * 40 + b * 30 + c, d * 40 + e * 30 + f) == pytest.approx((40, 30))
    assert (a * 60 + b * 30 + c, d * 60 + e * 30 + f) == pytest.approx(
        (50, 30)
    )  # twice as large: comes from half as far
    a, b, c, d, e, f = affine_coefficients((80, 60), 90, 0, 1)
    assert (a * 40 + b * 50 + c, d * 40 + e * 50 + f) == pytest.approx(
        (60, 30)
    )  # clockwise: below the middle lies what was right of it
    a, b, c, d, e, f = affine_coefficients((80, 60), 0, 45, 1)
    assert (a * 30 + b * 40 + c, d * 30 + e * 40 + f) == pytest.approx(
        (40, 40)
    )  # 10 below the middle: shifted left by 10


def test_jitter_without_strength_changes_nothing_and_hue_keeps_greys() -> None:
    picture = np.random.default_rng(3).integers(0, 256, (20, 30, 3), np.uint8)
    assert jitter(picture, (0, 0, 0, 0), np.random.default_rng(0)).tobytes() == picture.tobytes()
    assert jitter(picture, (0, 0, 0, 0.4), np.random.default_rng(0)).tobytes() != picture.tobytes()
    grey = np.array(Image.fromarray(picture).convert("L").convert("RGB"))
    assert jitter(grey, (0, 0, 0, 0.4), np.random.default_rng(0)).tobytes() == grey.tobytes()


def test_labels_follow_the_bright_object_through_every_warp(tmp_path: Path) -> None:
    source = xmem_static(
        write_images(tmp_path / "i", {n: [[24, 14, 56, 46]] for n in range(3)}),
        StaticClipSettings(clips=1, crop=64, thin_plate=1),
    )
    for index in range(12):
        frames, masks = source.read(index)
        assert (frames.shape, masks.shape) == ((3, 64, 64, 3), (3, 64, 64))
        assert masks[0].max() == 1
        bright = frames.mean(-1) > 160
        union = np.count_nonzero(bright | (masks == 1))
        assert np.count_nonzero(bright & (masks == 1)) / union > 0.9
        assert not np.array_equal(masks[0], masks[1])


def test_one_object_by_default_more_on_request_numbered_by_the_first_frame(tmp_path: Path) -> None:
    root = write_images(
        tmp_path / "i",
        {n: [[10, 20, 25, 40], [32, 20, 47, 40], [54, 20, 69, 40]] for n in range(3)},
    )
    one = xmem_static(root, StaticClipSettings(clips=1, crop=64))
    assert {int(one.read(index)[1].max()) for index in range(12)} == {1}
    three = xmem_static(root, StaticClipSettings(clips=1, crop=64, max_objects=3))
    seen = [set(np.unique(three.read(index)[1][0]).tolist()) - {0} for index in range(20)]
    assert max(map(len, seen)) == 3
    assert all(ids == set(range(1, len(ids) + 1)) for ids in seen)


def test_instances_below_the_least_area_are_no_objects(tmp_path: Path) -> None:
    root = write_images(
        tmp_path / "i", {n: [[2, 2, 5, 5], [24, 14, 56, 46]] for n in range(3)}
    )  # 16 and 1089 of 4800 pixels
    shares = [
        xmem_static(root, StaticClipSettings(clips=1, crop=64, min_area=least))
        for least in (0, 0.1, 0.5)
    ]
    areas = [
        [int((source.read(index)[1][0] > 0).sum()) for index in range(12)] for source in shares
    ]
    assert min(areas[0]) < 100 < 300 < min(areas[1])
    assert set(areas[2]) == {0}


def test_images_without_an_object_become_clips_without_one(tmp_path: Path) -> None:
    source = xmem_static(
        write_images(tmp_path / "i", {0: [[24, 14, 56, 46]]}), StaticClipSettings(clips=1, crop=32)
    )
    assert sorted(int(source.read(index)[1].max()) for index in range(3)) == [0, 0, 1]


def test_repeated_images_come_as_often_as_they_say(tmp_path: Path) -> None:
    root = write_images(tmp_path / "i", {0: [[24, 14, 56, 46]]}, repeat={0: 5})
    source = xmem_static(root, StaticClipSettings(clips=1, crop=32))
    for epoch in range(2):
        assert (
            sum(int(source.read(index)[1].max()) for index in range(7 * epoch, 7 * epoch + 7)) == 5
        )


def test_shards_hold_the_clips_whatever_the_number_of_workers(tmp_path: Path) -> None:
    root = write_images(tmp_path / "i", {n: [[24, 14, 56, 46]] for n in range(3)})
    (tmp_path / "params").mkdir()
    (tmp_path / "params/synth.yaml").write_text(
        yaml.safe_dump({"own": {"kind": "xmem_static", "clips": 13, "crop": 48, "shard": 6}})
    )
    outs = [tmp_path / "one", tmp_path / "two"]
    for workers, out in enumerate(outs, 1):
        synth.run(root, recipe="own", out=out, seed=3, params=tmp_path / "params", workers=workers)
    first, second = ({path.name: path.read_bytes() for path in out.iterdir()} for out in outs)
    assert first == second
    assert len(first) == 4
    shards, source = (
        ClipShards(outs[0]),
        xmem_static(root, StaticClipSettings(clips=13, crop=48), seed=3),
    )
    for index in (12, 0, 6):
        for read, made in zip(shards.read(index), source.read(index)):
            np.testing.assert_array_equal(read, made)


def test_real_images_become_clips_of_one_object(shared: Path, tmp_path: Path) -> None:
    kind, out = DATASETS.get("coco"), tmp_path / "sample"
    out.mkdir()
    kind.build(
        Conversion("sample", shared / "data" / "coco-sample", out),
        kind.validate({"source": "sample"}, "test"),
    )
    source = xmem_static(out, StaticClipSettings(clips=1, crop=96, min_area=0.01))
    seen = [source.read(index) for index in range(12)]
    assert all(masks.max() <= 1 for _, masks in seen)
    assert sum(int(masks[0].max()) for _, masks in seen) > 6, "most objects stay in the first crop"
    assert all(frames.std() > 10 for frames, _ in seen)


def test_committed_recipes_are_published_sized() -> None:
    entries: dict[str, Any] = read_family(Path(__file__).parents[3] / "params", "synth")
    for name, crop in {"xmem_static": 384, "xmem_static_micro": 96}.items():
        entry = dict(entries[name])
        settings = RECIPES.get(entry.pop("kind")).validate(entry, name)
        assert (settings.crop, settings.max_objects, settings.thin_plate) == (crop, 1, 0.33)
