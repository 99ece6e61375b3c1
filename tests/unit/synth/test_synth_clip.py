"""The COCO recipe step by step: geometry, labels, pasting, choice of objects, known traps."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from noisyvos.errors import UserError
from noisyvos.io.images import encode_frame
from noisyvos.synth.geometry import (
    apply_affine,
    random_affine,
    random_homographies,
    random_window,
    warp,
)
from noisyvos.synth.instances import Instances, read_instances
from noisyvos.synth.kinds.coco_clips import (
    CocoClipSettings,
    coco_clips,
    cut_out,
    draw_objects,
    make_clip,
    paste_object,
)

Annotation = dict[str, Any]
SETTINGS = CocoClipSettings(clips=1, crop=48)  # base side 60, areas / 64


def square(image: int, left: float, top: float, side: float) -> Annotation:
    points = [left, top, left + side, top, left + side, top + side, left, top + side]
    return {
        "image_id": image,
        "segmentation": [points],
        "bbox": [left, top, side, side],
        "iscrowd": 0,
    }


def crowd(image: int) -> Annotation:
    return {
        "image_id": image,
        "segmentation": {"size": [60, 80], "counts": [0, 4800]},
        "bbox": [0, 0, 80, 60],
        "iscrowd": 1,
    }


def dataset(
    root: Path, annotations: list[Annotation], images: int = 2, size: tuple[int, int] = (60, 80)
) -> Path:
    """Write a converted image dataset; image i is of one grey value, 50 + 50 i."""
    (root / "images").mkdir(parents=True)
    entries = []
    for number in range(images):
        (root / "images" / f"{number}.jpg").write_bytes(
            encode_frame(np.full((*size, 3), 50 + 50 * number, np.uint8))
        )
        entries.append(
            {"id": number, "file_name": f"{number}.jpg", "height": size[0], "width": size[1]}
        )
    numbered = [{"id": number} | annotation for number, annotation in enumerate(annotations)]
    (root / "instances.json").write_text(json.dumps({"images": entries, "annotations": numbered}))
    (root / "meta.json").write_text(json.dumps({"kind": "images", "name": "stills"}))
    return root


def load(tmp_path: Path, annotations: list[Annotation], **options: Any) -> Instances:
    return read_instances(dataset(tmp_path / "images", annotations, **options))


def test_lengths_are_the_published_ones_at_384_and_scale_below() -> None:
    full = CocoClipSettings(clips=1).lengths()
    assert (
        full.crop,
        full.base,
        full.instance_area,
        full.box_area,
        full.object_area,
        full.motion,
    ) == (384, 480, 2000, 3000, 350, (40, 20))
    small = CocoClipSettings(clips=1, crop=192).lengths()
    assert (small.base, small.instance_area, small.box_area, small.object_area, small.motion) == (
        240,
        500,
        750,
        87.5,
        (20, 10),
    )


@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480)])
def test_homographies_move_corners_by_a_tenth_and_then_further_the_same_way(
    height: int, width: int
) -> None:
    corners = np.array(
        [[0, 0], [0, height - 1], [width - 1, height - 1], [width - 1, 0]], np.float64
    )
    limit = np.array([width // 10, height // 10])
    generator = np.random.default_rng(0)
    for _ in range(50):
        shifts = []
        for matrix in random_homographies(generator, height, width):
            sources = cv2.perspectiveTransform(corners[None], np.linalg.inv(matrix))[0]
            shifts.append(sources - corners)
        first, second = shifts
        assert np.allclose(first, first.round(), atol=1e-3)
        assert (np.abs(first) <= limit + 1e-3).all()
        further = (second - first) * np.sign(first.round())
        assert (further >= -1e-3).all()
        assert (further <= limit + 1e-3).all()


def test_warping_a_window_equals_warping_all_and_cropping() -> None:
    generator = np.random.default_rng(1)
    image = cv2.resize(generator.integers(0, 256, (48, 64, 3), np.uint8), (640, 480))
    labels = cv2.resize(
        generator.integers(0, 4, (12, 16)).astype(np.uint8),
        (640, 480),
        interpolation=cv2.INTER_NEAREST,
    )
    matrix, _ = random_homographies(generator, 480, 640)
    left, top, right, bottom = window = (97, 31, 97 + 384, 31 + 384)
    whole = cv2.warpPerspective(image, matrix, (640, 480), flags=cv2.INTER_LINEAR)[
        top:bottom, left:right
    ]
    difference = np.abs(warp(image, matrix, window).astype(int) - whole)
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.01
    whole = cv2.warpPerspective(labels, matrix, (640, 480), flags=cv2.INTER_NEAREST)[
        top:bottom, left:right
    ]
    assert (warp(labels, matrix, window) != whole).mean() < 1e-4


@pytest.mark.parametrize(
    ("boxes", "low", "high"),
    [
        (
            [(10, 20, 30, 40)],
            (0, 0),
            (10, 12),
        ),  # (left, top, right, bottom) -> least and greatest start
        ([(10, 20, 30, 40), (50, 5, 58, 15)], (10, 0), (10, 5)),
        ([(0, 0, 80, 60)], (0, 0), (32, 12)),  # longer than the crop: the window is inside the box
        ([(20, 5, 68, 53)], (20, 5), (20, 5)),  # as long as the crop
        ([], (0, 0), (0, 0)),  # no label: the corner
    ],
)
def test_the_window_holds_the_union_of_the_labels(
    boxes: list[tuple[int, int, int, int]], low: tuple[int, int], high: tuple[int, int]
) -> None:
    maps = tuple(np.zeros((60, 80), np.uint8) for _ in range(3))
    for number, (left, top, right, bottom) in enumerate(boxes):
        maps[number][top:bottom, left:right] = number + 1
    generator = np.random.default_rng(2)
    starts = np.array([random_window(generator, maps, 48)[:2] for _ in range(400)])
    assert starts.min(0).tolist() == list(low)
    assert starts.max(0).tolist() == list(high)


def test_affine_maps_turn_about_the_centre_within_their_ranges() -> None:
    generator = np.random.default_rng(3)
    scales, angles, shears = [], [], []
    for _ in range(300):
        matrix = random_affine(generator, 31, 41)
        np.testing.assert_allclose(matrix @ [20, 15, 1], [20, 15], atol=1e-9)
        angle = np.arctan2(matrix[1, 0], matrix[0, 0])
        rest = (
            np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
            @ matrix[:, :2]
        )
        scales.append((rest[0, 0], rest[1, 1]))
        angles.append(np.rad2deg(angle))
        shears.append(np.rad2deg(np.arctan(rest[0, 1] / rest[1, 1])))
    for values, low, high in (
        (np.array(scales), 0.8, 1.2),
        (np.array(angles), -30, 30),
        (np.array(shears), -20, 20),
    ):
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high
    assert abs(np.corrcoef(np.array(scales).T)[0, 1]) < 0.3  # x and y independently


def test_earlier_instances_win_and_nested_polygons_are_holes(tmp_path: Path) -> None:
    ring = square(0, 10, 10, 30)
    ring["segmentation"].append([20, 20, 30, 20, 30, 30, 20, 30])
    instances = load(tmp_path, [ring, square(0, 5, 5, 40)], images=1)
    masks = clips(instances, 40)
    own = [clip for clip in masks if clip.pasted == 0]
    assert own
    for clip in own:
        first = clip.masks[0]
        rows, columns = np.nonzero(first == 1)
        inside = first[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert inside.shape == (31, 31)  # boundary pixels belong to the instance
        assert (inside[11:20, 11:20] == 2).all()  # through the hole the later instance shows
        assert (inside[:10] == 1).all()


def clips(
    instances: Instances, count: int, settings: CocoClipSettings = SETTINGS, image: int = 0
) -> list[Any]:
    return [
        make_clip(instances, image, settings, np.random.default_rng(seed)) for seed in range(count)
    ]


def test_half_of_the_clips_paste_one_to_three_objects(tmp_path: Path) -> None:
    made = clips(load(tmp_path, [square(0, 10, 10, 20), square(1, 20, 20, 15)]), 300)
    pasted = np.bincount([clip.pasted for clip in made], minlength=4)
    assert 120 <= pasted[0] <= 180
    assert (pasted[1:] >= 30).all()
    assert len(pasted) == 4


def test_an_image_without_instances_becomes_background_of_pasted_objects(tmp_path: Path) -> None:
    instances = load(tmp_path, [square(1, 20, 20, 20)])
    made = clips(instances, 30)
    assert all(1 <= clip.pasted <= 3 for clip in made)
    for clip in made:
        assert set(np.unique(clip.frames[0][clip.masks[0] == 0])) <= {
            49,
            50,
            51,
            99,
            100,
            101,
        }  # a small rest of a pasted one stays
        assert (np.abs(clip.frames[0][clip.masks[0] > 0].astype(int) - 100) <= 1).all()


def test_crowds_are_never_drawn_and_a_failed_draw_leaves_an_empty_clip(tmp_path: Path) -> None:
    made = clips(load(tmp_path, [crowd(0), crowd(1), square(1, 5, 5, 3)]), 30)
    assert all(clip.pasted == 0 for clip in made)
    assert all(clip.masks.max() == 0 for clip in made)
    assert all(clip.frames.shape == (3, 48, 48, 3) for clip in made)


def test_instances_below_the_area_are_not_used(tmp_path: Path) -> None:
    instances = load(
        tmp_path, [square(0, 10, 10, 4), square(0, 40, 10, 5)], images=1
    )  # 25 and 36 pixels; needed 31.25
    own = [clip for clip in clips(instances, 60) if clip.pasted == 0]
    assert own
    assert all(np.count_nonzero(clip.masks[0]) in (0, 36) for clip in own)


def test_many_instances_do_not_fail_and_at_most_five_objects_remain(tmp_path: Path) -> None:
    grid = [square(0, 2 + 11 * (n % 7), 2 + 11 * (n // 7), 9) for n in range(28)]
    for clip in clips(load(tmp_path, grid, images=1), 60):
        labels = np.unique(clip.masks[0])
        assert labels.tolist() == list(range(len(labels)))
        assert len(labels) - 1 <= 5
        assert all(np.count_nonzero(clip.masks[0] == label) > 350 / 64 for label in labels[1:])
        assert set(np.unique(clip.masks)) == set(labels.tolist())


def test_a_patch_is_padded_so_that_a_rotation_keeps_it_whole(tmp_path: Path) -> None:
    patch = cut_out(load(tmp_path, [square(0, 10, 10, 30)], images=1), 0)
    assert patch is not None
    assert (
        patch.mask.shape == patch.image.shape[:2] == (42, 42)
    )  # int(sqrt(2) * 30) = 42, 6 on every side
    assert np.count_nonzero(patch.mask) == 900
    turned = apply_affine(patch.mask, cv2.getRotationMatrix2D((20.5, 20.5), 45, 1))
    assert abs(np.count_nonzero(turned) - 900) < 40


@pytest.mark.parametrize("symmetric", [False, True])
def test_pasted_objects_move_right_and_down_unless_symmetric(
    tmp_path: Path, symmetric: bool
) -> None:
    patch = cut_out(load(tmp_path, [square(0, 10, 10, 8)], images=1), 0)
    assert patch is not None
    steps = []
    for seed in range(150):
        frames, labels = np.zeros((3, 48, 48, 4), np.uint8), np.zeros((3, 48, 48), np.uint8)
        paste_object(
            np.random.default_rng(seed), frames, labels, patch, 4, SETTINGS.lengths(), symmetric
        )
        assert ((frames[0, ..., :3] > 0).any(-1) == (labels[0] == 4)).all()
        places = [np.argwhere(label == 4) for label in labels]
        centres = [
            place.mean(0)[::-1]
            for place in places
            if len(place) and place.min() > 0 and place.max() < 47
        ]
        steps += list(np.diff(centres, axis=0)) if len(centres) == 3 else []
    steps = np.array(steps)
    low, high = steps.min(0), steps.max(0)
    assert (
        high <= (5.6, 3.6)
    ).all()  # at most 5 right and 2 down, and the warp may shift the centre by a fraction
    assert (high >= (4, 1.5)).all()
    assert (low < (-3, -1)).all() if symmetric else (low > -1).all()


def test_draws_take_large_boxes_only(tmp_path: Path) -> None:
    instances = load(
        tmp_path, [square(0, 5, 5, 6), square(0, 20, 20, 7)], images=1
    )  # 36 and 49; needed 46.9
    drawn = [
        draw_objects(np.random.default_rng(seed), instances, SETTINGS.lengths())
        for seed in range(60)
    ]
    assert {len(objects) for objects in drawn} == {1, 2, 3}
    assert {instance for objects in drawn for instance in objects} == {1}


def test_frame_1_is_the_flipped_or_plain_image_and_later_frames_show_wedges(tmp_path: Path) -> None:
    instances = load(tmp_path, [square(0, 2, 2, 56)], images=1)
    own = [clip for clip in clips(instances, 40) if clip.pasted == 0]
    assert all(np.abs(clip.frames[0].astype(int) - 50).max() <= 1 for clip in own)
    wedges = [int((clip.frames[2] == 0).all(-1).sum()) for clip in own]
    assert max(wedges) > 0
    assert all(
        (clip.masks[time][(clip.frames[time] == 0).all(-1)] == 0).all()
        for clip in own
        for time in range(3)
    )


@pytest.mark.parametrize("size", [(30, 40), (90, 120), (120, 70)])
def test_images_of_any_size_are_brought_to_the_base_side(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    instances = load(tmp_path, [square(0, 5, 5, 20)], images=1, size=size)
    for clip in clips(instances, 10):
        assert clip.frames.shape == (3, 48, 48, 3)
        assert clip.masks.shape == (3, 48, 48)


def test_a_dataset_without_polygons_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no instance has a polygon"):
        load(tmp_path, [crowd(0)])


def test_clips_on_real_images(shared: Path, tmp_path: Path) -> None:
    from noisyvos.datasets.base import DATASETS, Conversion

    kind = DATASETS.get("coco")
    out = tmp_path / "images"
    out.mkdir()
    kind.build(
        Conversion("sample", shared / "data" / "coco-sample", out),
        kind.validate({"source": "sample"}, "test"),
    )
    source = coco_clips(out, CocoClipSettings(clips=1), seed=0)
    made = [source.clip(index) for index in range(32)]  # every image once
    assert len(np.unique([clip.frames[0].mean() for clip in made])) == 32
    assert all(clip.frames.shape == (3, 384, 384, 3) and clip.masks.max() <= 5 for clip in made)
    assert np.mean([clip.masks[0].max() for clip in made]) > 2
    assert sum(clip.pasted for clip in made) > 15
