"""What the kinds beyond dilate, erode and mix do, each in its own terms."""

import itertools

import cv2
import numpy as np
import pytest

from noisyvos.errors import UserError
from noisyvos.noise import corrupt, corrupt_video, kinds
from noisyvos.noise.engine.calibration import compare, object_ious
from noisyvos.noise.engine.geometry import farthest_three, fill, outer_contours
from noisyvos.noise.kinds.polygon import Outline
from noisyvos.noise.kinds.sparse import skeleton


def blob(area: int = 2000, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    radius = np.sqrt(area / np.pi)
    cv2.ellipse(
        mask,
        (size[1] // 2, size[0] // 2),
        (int(1.4 * radius), int(radius / 1.4)),
        20,
        0,
        360,
        1,
        -1,
    )
    cv2.circle(mask, (size[1] // 2 + int(radius), size[0] // 2), int(radius / 2), 1, -1)
    return mask


def crowd() -> np.ndarray:
    mask = np.zeros((120, 160), np.uint8)
    for i, (x, y) in enumerate([(40, 40), (80, 50), (110, 45), (60, 90)], start=1):
        cv2.ellipse(mask, (x, y), (22, 17), 30 * i, 0, 360, i, -1)
    return mask


@pytest.mark.parametrize(
    "kind", ["jitter", "shift", "polygon", "markov_grow", "markov_shrink", "markov_neutral"]
)
def test_calibrated_kinds_reach_their_level_where_objects_touch(kind: str) -> None:
    mask = crowd()
    for q in (0.9, 0.75, 0.6):
        ious = [
            iou
            for seed in range(3)
            for iou in object_ious(mask, corrupt(mask, kind, q=q, seed=seed)).values()
        ]
        assert abs(np.mean(ious) - q) <= 0.01


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("markov_grow", 1.1, 9),
        ("markov_shrink", 0, 0.9),
        ("jitter", 0.85, 1.15),
        ("shift", 0.9, 1.1),
    ],
)
def test_kinds_are_biased_as_they_say(kind: str, low: float, high: float) -> None:
    mask = blob()
    ratios = [
        compare(mask, corrupt(mask, kind, q=0.8, seed=seed)).area_ratio[1] for seed in range(6)
    ]
    assert low < np.mean(ratios) < high


def test_a_pure_shift_moves_the_object_without_changing_it() -> None:
    mask = blob()
    for seed in range(4):
        noisy = corrupt(mask, "shift", q=0.7, seed=seed, angle=0.0, spread=0.0)
        moved = [np.argwhere(m == 1).mean(0) for m in (mask, noisy)]
        assert np.hypot(*(moved[1] - moved[0])) > 2
        assert abs(int(noisy.sum()) / int(mask.sum()) - 1) < 0.02


@pytest.mark.parametrize("kind", ["jitter", "shift"])
def test_noise_lasts_in_time_as_asked(kind: str) -> None:
    frames = [blob()] * 8

    def agreement(temporal: str) -> float:
        masks = corrupt_video(frames, kind, q=0.7, temporal=temporal).masks
        return float(np.mean([(a & b).sum() / (a | b).sum() for a, b in itertools.pairwise(masks)]))

    assert agreement("persistent") == 1
    assert agreement("iid") < agreement("ar1") < 1


@pytest.mark.parametrize("kind", ["markov_grow", "coco_n", "mar_smart"])
def test_kinds_that_cannot_last_in_time_say_so(kind: str) -> None:
    settings = {"q": 0.8} if kind == "markov_grow" else {}
    with pytest.raises(UserError, match="temporal"):
        corrupt(blob(), kind, temporal="persistent", **settings)


def test_an_outline_without_tolerance_is_the_contour_and_at_last_a_triangle() -> None:
    inside = blob() == 1
    (line,) = outer_contours(inside)
    outline = Outline.of(line)
    assert (
        np.count_nonzero(fill(inside.shape, [outline.at(0.0)], 4) != inside) <= 0.01 * inside.sum()
    )
    assert len(outline.at(1000.0)) == 3
    assert np.array_equal(outline.at(1000.0), line[farthest_three(line)])
    counts = [len(outline.at(tolerance)) for tolerance in (0.5, 1, 2, 4, 8, 16)]
    assert counts == sorted(counts, reverse=True)


def test_coco_errors_come_with_their_probabilities() -> None:
    masks = [blob(size=(100, 120), area=1500)] * 120
    for level, clean_share in (("easy", 0.4), ("medium", 0.25), ("hard", 0.1)):
        noisy = corrupt_video(masks, "coco_n", level=level).masks
        same = np.mean([np.array_equal(a, b) for a, b in zip(masks, noisy, strict=True)])
        assert abs(same - clean_share) < 0.13


def test_actiseg_is_one_dilation_with_a_square() -> None:
    mask = blob()
    expected = cv2.dilate(mask, np.ones((9, 9), np.uint8))
    assert np.array_equal(
        corrupt(mask, "morph", operator="D", shape="rectangle", kernel=9, iterations=1), expected
    )


@pytest.mark.parametrize("kernel", [0, 4])
def test_kernels_without_a_centre_are_refused(kernel: int) -> None:
    with pytest.raises(UserError, match="kernel"):
        corrupt(blob(), "morph", kernel=kernel)


def test_morph_rescues_what_would_vanish_unless_it_plays_the_released_code() -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[10:15, 10:15] = 3
    result = corrupt_video([mask], "morph", operator="E")
    assert (result.masks[0] == 3).sum() == 16
    assert result.rescued == {(0, 3)}
    assert not corrupt(mask, "morph", operator="E", parity=True).any()


def test_drop_takes_one_block_of_the_given_share() -> None:
    frames = [crowd()] * 20
    result = corrupt_video(frames, "drop", rate=0.3)
    for i in range(1, 5):
        gone = [t for t in range(20) if i not in result.masks[t]]
        assert len(gone) == 6
        assert gone == list(range(gone[0], gone[0] + 6))
    short = [
        len(corrupt_video(frames[:2], "drop", rate=0.3, seed=seed).affected) / 8
        for seed in range(200)
    ]
    assert abs(np.mean(short) - 0.3) < 0.05, "on average also where frames are few"


def test_drop_never_empties_the_first_frame() -> None:
    for seed in range(30):
        assert corrupt_video([blob()] * 3, "drop", rate=0.6, seed=seed).masks[0].any()


def test_swap_exchanges_pairs_from_some_frame_on() -> None:
    frames = [crowd()] * 12
    shares = []
    for seed in range(100):
        result = corrupt_video(frames, "swap", rate=0.4, seed=seed)
        shares.append(len(result.affected) / result.eligible)
        assert np.array_equal(result.masks[0], frames[0])
        assert all(np.array_equal(mask > 0, frames[0] > 0) for mask in result.masks)
        wrong = [not np.array_equal(mask, frames[0]) for mask in result.masks]
        assert wrong == sorted(wrong), "once switched, the objects stay so"
    assert abs(np.mean(shares) - 0.4) < 0.04
    lone = corrupt_video([blob()] * 5, "swap", rate=0.5)
    assert (lone.eligible, len(lone.affected)) == (0, 0)


def test_frames_are_deleted_but_never_the_prompt() -> None:
    frames = [blob()] * 10
    for seed in range(5):
        masks = corrupt_video(frames, "frame_delete", keep=0.5, seed=seed).masks
        assert sum((mask == 255).all() for mask in masks) == 5
        assert np.array_equal(masks[0], frames[0])
    assert (
        sum((mask != 255).any() for mask in corrupt_video(frames, "frame_delete", labelled=2).masks)
        == 2
    )
    for wrong in ({}, {"keep": 0.5, "labelled": 2}):
        with pytest.raises(UserError, match="either keep"):
            corrupt_video(frames, "frame_delete", **wrong)


def test_scribbles_are_thin_and_right() -> None:
    mask = crowd()
    noisy = corrupt(mask, "scribble")
    labelled = noisy != 255
    assert np.array_equal(noisy[labelled], mask[labelled])
    assert set(np.unique(noisy)) == {0, 1, 2, 3, 4, 255}
    assert labelled.mean() < 0.15
    inside = mask == 1
    line = skeleton(inside)
    assert not (line.astype(bool) & ~inside).any()
    assert cv2.connectedComponents(line, connectivity=8)[0] == 2
    thick = cv2.erode(line, np.ones((2, 2), np.uint8))
    assert not thick.any()


def test_kinds_are_the_documented_ones() -> None:
    documented = (
        "clean coco_n dilate drop erode frame_delete jitter mar_smart "
        "markov_grow markov_neutral markov_shrink mix morph"
    )
    assert kinds() == (*documented.split(), "polygon", "scribble", "shift", "strokes", "swap")
    with pytest.raises(UserError, match=r"Unknown noise kind 'dilatee'. Did you mean 'dilate'"):
        corrupt(blob(), "dilatee", q=0.8)


@pytest.mark.parametrize("seed", [-1, 0.5, True])
def test_seeds_are_whole_numbers_from_0(seed: object) -> None:
    with pytest.raises(UserError, match="seed"):
        corrupt(blob(), "dilate", q=0.8, seed=seed)


@pytest.mark.parametrize(
    "mask", [np.zeros((4, 4), np.int64), np.zeros((4, 4, 3), np.uint8), [[0, 1]]]
)
def test_what_is_no_mask_is_refused(mask: object) -> None:
    with pytest.raises(UserError, match="a mask is an array"):
        corrupt(mask, "dilate", q=0.8)
