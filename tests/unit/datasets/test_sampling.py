"""Frames and objects of training samples."""

from itertools import permutations

import numpy as np
import pytest

from noisyvos.datasets.sampling import (
    choose_any,
    choose_forward,
    choose_frames,
    choose_objects,
    lasting_objects,
    relabel,
    unit_at,
    usable_objects,
)
from noisyvos.seeding import numpy_generator


def draws(count: int = 200):
    return [numpy_generator("test", index) for index in range(count)]


def test_every_chosen_frame_is_within_the_jump_of_another_one():
    for generator in draws():
        chosen = sorted(choose_frames(30, 5, 3, 0.0, generator))
        assert len(set(chosen)) == 5
        assert chosen[0] >= 0
        assert chosen[-1] < 30
        assert max(np.diff(chosen)) <= 3


def test_all_gaps_up_to_the_jump_occur():
    gaps = {
        int(gap)
        for generator in draws()
        for gap in np.diff(choose_frames(30, 3, 3, 0.0, generator))
    }
    assert gaps == {1, 2, 3}


def test_reversal_follows_its_probability():
    forwards = [choose_frames(9, 3, 2, 0.0, generator) for generator in draws(20)]
    backwards = [choose_frames(9, 3, 2, 1.0, generator) for generator in draws(20)]
    assert all(chosen == sorted(chosen) for chosen in forwards)
    assert backwards == [chosen[::-1] for chosen in forwards]
    half = [choose_frames(9, 2, 2, 0.5, g) for g in draws(400)]
    assert 140 < sum(first > last for first, last in half) < 260


def test_a_video_that_is_just_long_enough_gives_all_its_frames():
    assert choose_frames(3, 3, 1, 0.0, numpy_generator(0)) == [0, 1, 2]
    with pytest.raises(ValueError, match="2 frames holds no clip of 3"):
        choose_frames(2, 3, 5, 0.0, numpy_generator(0))


def test_forward_clips_start_where_there_is_room_and_go_on_by_at_most_the_jump():
    clips = [choose_forward(6, 3, 2, 0.0, generator) for generator in draws(400)]
    assert {clip[0] for clip in clips} == {0, 1, 2, 3}
    assert {int(gap) for clip in clips for gap in np.diff(clip)} == {1, 2}
    assert all(clip[1] <= 4 and clip[2] <= 5 for clip in clips), "room for the rest is kept"
    consecutive = [choose_forward(6, 3, 1, 0.0, generator) for generator in draws(50)]
    assert all(list(np.diff(clip)) == [1, 1] for clip in consecutive)
    assert choose_forward(3, 3, 9, 1.0, numpy_generator(0)) == [2, 1, 0]
    with pytest.raises(ValueError, match="2 frames holds no clip of 3"):
        choose_forward(2, 3, 5, 0.0, numpy_generator(0))


def test_any_draws_distinct_frames_in_any_order():
    clips = [choose_any(4, 3, 1, 0.0, generator) for generator in draws(400)]
    assert {tuple(clip) for clip in clips} == set(permutations(range(4), 3))
    with pytest.raises(ValueError, match="2 frames holds no clip of 3"):
        choose_any(2, 3, 5, 0.0, numpy_generator(0))


def test_an_epoch_visits_every_unit_once_in_an_order_of_its_own():
    epochs = [
        [unit_at(epoch * 7 + place, 7, seed=0, name="toy") for place in range(7)]
        for epoch in range(3)
    ]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert epochs[0] != [unit_at(place, 7, seed=1, name="toy") for place in range(7)]


def test_void_and_specks_are_no_objects():
    mask = np.zeros((6, 6), np.uint8)
    mask[0, :4], mask[1, 0], mask[2, :] = 7, 9, 255
    assert usable_objects(mask) == [7, 9]
    assert usable_objects(mask, min_area=2) == [7]
    assert usable_objects(np.full((3, 3), 255, np.uint8)) == []


def test_more_objects_than_slots_are_chosen_at_random():
    assert choose_objects([2, 4], 2, numpy_generator(0)) == [2, 4]
    seen = {tuple(choose_objects([2, 4, 6], 2, generator)) for generator in draws()}
    assert seen == {(2, 4), (4, 2), (2, 6), (6, 2), (4, 6), (6, 4)}


def test_relabelling_numbers_slots_and_keeps_void():
    mask = np.array([[0, 2, 4, 6, 255]], np.uint8)
    assert relabel(mask, [6, 2]).tolist() == [[0, 2, 0, 1, 255]]
    assert relabel(mask, []).tolist() == [[0, 0, 0, 0, 255]]


def test_objects_that_start_as_slivers_and_grow_are_left_out_of_bl30k() -> None:
    masks = np.zeros((3, 64, 64), np.uint8)
    for label, (first, third) in {
        1: (901, 901),
        2: (500, 399),
        3: (500, 400),
        4: (100, 100),
    }.items():
        masks[0].ravel()[1000 * (label - 1) :][:first] = label
        masks[2].ravel()[1000 * (label - 1) :][:third] = label
    assert lasting_objects(masks) == [1, 2]
    assert lasting_objects(masks[:1]) == [1, 2, 3]
    masks[0][masks[0] == 3] = 255
    assert lasting_objects(masks[:1]) == [1, 2]
