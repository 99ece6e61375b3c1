"""`segment_video`: what goes in and comes out, whatever the network."""

import numpy as np
import pytest
import torch

from noisyvos import models
from noisyvos.inference import segment_video
from noisyvos.inference.video import iterate_video

HEIGHT, WIDTH = 40, 56


@pytest.fixture(scope="module")
def model():
    """A small untrained network."""
    return models.build("xmem_tiny")


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Seven frames, (7, H, W, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (7, HEIGHT, WIDTH, 3), dtype=np.uint8)


def mask_with(**boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for name, (top, bottom, left, right) in boxes.items():
        mask[top:bottom, left:right] = int(name[1:])
    return mask


def test_arrays_read_lazily_give_the_numbers_of_the_tensor(model, frames) -> None:
    annotation = {0: mask_with(o1=(5, 20, 5, 20))}
    tensor = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    whole = segment_video(
        model,
        tensor,
        annotation,
        memory={"enable_long_term_count_usage": False},
        keep_probabilities=True,
    )
    read: list[int] = []

    def lazily():
        for index, frame in enumerate(frames):
            read.append(index)
            yield frame

    calls: list[tuple[int, int | None]] = []
    lazy = segment_video(
        model,
        lazily(),
        annotation,
        memory={"enable_long_term_count_usage": False},
        keep_probabilities=True,
        progress=lambda done, total: calls.append((done, total, len(read))),
    )
    assert lazy.probabilities.tobytes() == whole.probabilities.tobytes()
    assert calls == [
        (i + 1, None, min(i + 2, 7)) for i in range(7)
    ]  # one frame ahead, to know the last


def test_late_objects_ids_and_void(model, frames) -> None:
    first = mask_with(o7=(5, 20, 5, 20))
    first[30:] = 255
    late = mask_with(o2=(10, 25, 15, 40))
    video = segment_video(model, list(frames), {2: first, 4: late}, keep_probabilities=True)
    assert (video.masks[:2] == 0).all()
    assert (video.probabilities[:2, 0] == 1).all()
    assert np.array_equal(video.masks[2], np.where(first == 255, 0, first))
    assert np.abs(video.probabilities[2, 2] - (first == 7)).max() < 1e-5
    assert (video.probabilities[:4, 1] == 0).all()  # object 2 is not there yet
    assert 2 not in video.masks[:4]
    assert (video.masks[4][late == 2] == 2).all()
    assert set(np.unique(video.masks)) <= {0, 2, 7}
    assert video.memory_usage[0] == {"working": 0, "long_term": 0}
    assert video.memory_usage[2] == {"working": 35, "long_term": 0}


def test_an_object_given_again_keeps_its_channel(model, frames) -> None:
    first, again = mask_with(o1=(5, 20, 5, 20)), mask_with(o1=(20, 35, 30, 50))
    video = segment_video(model, list(frames), {0: first, 3: again})
    assert np.array_equal(video.masks[3], again)


def test_other_working_size_comes_back_at_the_input_size(model, frames) -> None:
    first = mask_with(o1=(5, 20, 5, 20))
    for size in (24, 64):
        video = segment_video(model, list(frames), {0: first}, size=size, keep_probabilities=True)
        assert video.masks.shape == (7, HEIGHT, WIDTH)
        assert np.array_equal(video.masks[0], first)
        assert np.abs(video.probabilities.sum(1) - 1).max() < 1e-4
    same = segment_video(model, list(frames), {0: first}, size=HEIGHT, keep_probabilities=True)
    plain = segment_video(model, list(frames), {0: first}, keep_probabilities=True)
    assert same.probabilities.tobytes() == plain.probabilities.tobytes()


def test_without_long_term_memory_every_memory_frame_stays(model, frames) -> None:
    video = segment_video(
        model,
        list(frames),
        {0: mask_with(o1=(5, 20, 5, 20))},
        memory={"mem_every": 2, "enable_long_term": False},
    )
    assert [usage["working"] // 35 for usage in video.memory_usage] == [1, 1, 2, 2, 3, 3, 3]
    assert video.probabilities is None


GOOD = mask_with(o1=(5, 20, 5, 20))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memory": {"mem_evry": 2}}, r"'mem_evry'. Did you mean 'mem_every'\? Known: .*top_k"),
        ({"memory": {"top_k": 0}}, "top_k"),
        ({"memory": {"min_mid_term_frames": 12}}, "min_mid_term_frames must be smaller"),
        ({"size": 0}, "size must be"),
        ({"annotations": {}}, "no mask names an object"),
        ({"annotations": {0: GOOD * 255}}, "no mask names an object"),
        ({"annotations": {-1: GOOD}}, "-1 is not a frame index"),
        ({"annotations": {0: GOOD.astype(np.int64)}}, r"frame 0 has int64"),
        ({"annotations": {0: GOOD, 1: GOOD[:-1]}}, "different sizes"),
    ],
)
def test_bad_arguments_are_refused_before_a_frame_is_read(model, change, message) -> None:
    def never_read():
        raise AssertionError("a frame was read")
        yield

    with pytest.raises(ValueError, match=message):
        segment_video(model, never_read(), **({"annotations": {0: GOOD}} | change))


def test_bad_frames(model, frames) -> None:
    with pytest.raises(ValueError, match=r"0\.\.6"):
        segment_video(model, list(frames), {7: GOOD})
    with pytest.raises(ValueError, match="frame 7 is annotated, but the video has only 7"):
        segment_video(model, iter(frames), {0: GOOD, 7: GOOD})
    with pytest.raises(ValueError, match=r"frame 1 is \(39, 56\)"):
        segment_video(model, [frames[0], frames[1][:-1]], {0: GOOD})
    with pytest.raises(ValueError, match="frame 0: uint8 of shape"):
        segment_video(model, [frames[0, ..., 0]], {0: GOOD})
    with pytest.raises(ValueError, match="the video is empty"):
        segment_video(model, iter(()), {0: GOOD})
    with pytest.raises(ValueError, match="frames must be a float tensor"):
        segment_video(model, torch.from_numpy(frames), {0: GOOD})


def test_scribbles_are_hints(frames) -> None:
    class Scribbled(type(models.build("xmem_tiny"))):
        background_label = 11

        def session(self, *, channels, memory, length):
            assert channels == 1  # the background scribble is no object
            return Seen()

    class Seen:
        given: dict = {}  # noqa: RUF012

        def step(self, frame, *, given, last):
            self.given = given or self.given
            probabilities = torch.zeros(2, HEIGHT, WIDTH)
            probabilities[1] = 1
            return probabilities

        def memory_usage(self):
            return {"channels": sorted(self.given)}

    model = Scribbled(models.build("xmem_tiny").settings)
    scribble = mask_with(o4=(5, 7, 5, 20), o11=(30, 32, 5, 50))
    video = segment_video(model, list(frames), {0: scribble})
    assert (
        video.masks == 4
    ).all()  # also where background was scribbled: the result is the prediction
    assert video.memory_usage[0] == {"channels": [0, 1]}


def test_half_precision_is_close_to_full_and_a_cpu_computes_in_it_only_if_asked_for_bf16(
    monkeypatch,
) -> None:
    model = models.build("xmem_tiny")
    frames = torch.rand(4, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    mask = np.zeros((32, 48), np.uint8)
    mask[8:24, 10:30] = 1
    full, asked = (
        [result.probabilities for result in iterate_video(model, frames, {0: mask}, amp=amp)]
        for amp in (False, True)
    )
    assert all(np.array_equal(one, other) for one, other in zip(full, asked, strict=True))
    monkeypatch.setattr(
        "noisyvos.inference.video.half_precision",
        lambda amp, device, inference: torch.bfloat16,
    )
    half = [result.probabilities for result in iterate_video(model, frames, {0: mask}, amp="bf16")]
    assert not np.array_equal(full[-1], half[-1])
    assert max(np.abs(one - other).max() for one, other in zip(full, half, strict=True)) < 0.1
