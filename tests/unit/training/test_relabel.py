"""Spatial correction.

Bias measured on few clean masks, labels corrected by it, and the rounds of a training.
"""

import json
import os
import signal

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from training_world import make_world

from noisyvos.datasets.layout import VideoDataset
from noisyvos.errors import UserError
from noisyvos.io.masks import VOID, MaskCollection, write_mask_zip
from noisyvos.losses.boundary_bias import signed_distance
from noisyvos.models.base import ClipOutput, Session, VideoModel
from noisyvos.registry import Settings
from noisyvos.stages import train
from noisyvos.training import task as tasks
from noisyvos.training.clip_readers import VideoClips
from noisyvos.training.relabel import corrected_mask, measure_bias, relabel, with_all_objects
from noisyvos.training.task import TrainingTask

DATA = ("00001", "00002", "00003")


class Grown(VideoModel):
    """A network that knows the true mask of object 1 by its frame and gives it `pixels` too far.

    With logits linear in depth.
    """

    memory_settings = Settings

    def __init__(self, pixels: int, dataset: VideoDataset) -> None:
        super().__init__()
        self.pixels = pixels
        every = [(s, f) for s in dataset.sequences for f in ("00000", *DATA)]
        self.true = {
            dataset.read_frame(*place).tobytes(): dataset.read_mask(*place) == 1 for place in every
        }
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward_clip(self, clip, *, generator):
        raise NotImplementedError

    def session(self, *, channels, memory, length):
        outer = self

        class Walk(Session):
            def step(self, frame, *, given=None, last=False):
                picture = (
                    (frame * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
                )
                logit = torch.from_numpy(
                    outer.pixels + 0.5 - signed_distance(outer.true[picture.tobytes()])
                ).float()
                inside = torch.sigmoid(logit)
                return torch.stack(
                    [1 - inside, inside, *[torch.zeros_like(inside)] * (channels - 1)]
                )

            def memory_usage(self):
                return {}

        return Walk()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


def test_objects_are_moved_back_and_the_rest_is_background():
    y, x = np.mgrid[:40, :40] - 20
    depth = np.hypot(x, y) - 8
    inside = 1 / (1 + np.exp(depth - 6))  # 6 pixels too large
    found = corrected_mask(np.stack([1 - inside, inside]).astype(np.float32), [7], -6.0)
    radius = np.sqrt((found == 7).sum() / np.pi)
    assert set(np.unique(found)) == {0, 7}
    assert radius == pytest.approx(8 + 6 * (1 - 0.753), abs=0.7)


@pytest.mark.parametrize("name", ["less than a pixel", "rounds"])
def test_rounds_of_a_training(world, tmp_path, monkeypatch, name):
    """One training if the bias is small, else as many as rounds allow.

    A kill between them changes no byte.
    """
    biases = {"less than a pixel": [0.5], "rounds": [-3.0, -1.5]}[name]
    (world / "params" / "methods.yaml").write_text(
        yaml.safe_dump({"sc": {"kind": "sc", "clean_masks": 2}})
    )
    asked = []

    def stand_in(network, source, wanted, seed, out, fingerprint):
        asked.append(wanted.clean_masks)
        monkeypatch.setattr(
            "noisyvos.training.relabel.measure_bias", lambda *rest: biases[len(asked) - 1] / 0.8
        )
        return relabel(network, source, wanted, seed, out, fingerprint)

    monkeypatch.setattr("noisyvos.training.relabel.relabel", stand_in)
    results = []
    for folder, killed in (("whole", False), ("killed", True)):
        asked.clear()
        base = tmp_path / folder
        outputs = {
            "weights": base / "w.safetensors",
            "summary": base / "s.json",
            "curve": base / "c.csv",
            "scratch": base / "scratch",
        }
        names = {
            "model": "small",
            "method": "sc",
            "schedule": "short",
            "seed": 0,
            "preset": "toy",
            "cell": "one",
        }
        task = TrainingTask(
            stage="train", **names, **outputs, params=world / "params", device="cpu", track=False
        )
        given = {
            "dataset": world / "data",
            "masks": world / "noisy.zip",
            "manifest": world / "noisy.json",
        }
        if killed and len(biases) > 1:
            from noisyvos.training import loop

            compute, seen = loop.take_step, []

            def stopping(*values, seen=seen, compute=compute):
                seen.append(1)
                if len(seen) == 20:  # in the second of three trainings of 14
                    os.kill(os.getpid(), signal.SIGTERM)
                return compute(*values)

            with monkeypatch.context() as patch:
                patch.setattr(loop, "take_step", stopping)
                with pytest.raises(SystemExit):
                    train.run(task, **given)
            assert (base / "scratch/toy/one/labels-0.zip").is_file()
        train.run(task, **given)
        assert not (base / "scratch/toy/one").exists()
        results.append(
            [(base / file).read_bytes() for file in ("w.safetensors", "s.json", "c.csv")]
        )
        assert asked == [2] * len(biases)
    assert results[0] == results[1]
    assert json.loads(results[0][1])["relabelling"] == {
        "clean_masks": 2,
        "bias": pytest.approx(biases),
    }


def test_the_bias_is_that_of_the_network_and_relabelling_takes_it_back(world, tmp_path):
    dataset = VideoDataset(world / "data")
    only = [
        (s, f, np.where(dataset.read_mask(s, f) == 1, 1, 0).astype(np.uint8))
        for s in dataset.sequences
        for f in ("00000", *DATA)
    ]
    only = [
        (s, f, np.where(np.arange(40) == 39, VOID, mask).astype(np.uint8)) for s, f, mask in only
    ]
    write_mask_zip(tmp_path / "given.zip", only)
    source = VideoClips(world / "data", tmp_path / "given.zip", 3)
    bias = measure_bias(Grown(2, dataset), source, 3, 0)
    assert bias == pytest.approx(-2, abs=0.6)
    wanted = type("Wanted", (), {"clean_masks": 3, "share": 1.0, "rounds": 1})()
    assert relabel(Grown(2, dataset), source, wanted, 0, tmp_path / "new.zip", "m") == bias
    new = MaskCollection(tmp_path / "new.zip")
    for sequence, frame, mask in only:
        found, clean = new.read(sequence, frame), dataset.read_mask(sequence, frame) == 1
        assert np.array_equal(found == VOID, mask == VOID)
        if frame == "00000":
            assert np.array_equal(found, mask)  # the prompt
        else:
            assert 0 <= (found == 1).sum() - clean.sum() < 0.6 * (4 * 2 * 10)
    assert relabel(
        Grown(0, dataset), source, wanted, 0, tmp_path / "none.zip", "m"
    ) == pytest.approx(0, abs=0.6)
    assert not (tmp_path / "none.zip").exists()


def test_objects_that_the_network_lost_keep_their_given_labels():
    given = np.array([[1, 1, 2, 2, 3, VOID]], np.uint8)
    lost_two = np.array([[1, 0, 1, 1, 3, 0]], np.uint8)
    assert with_all_objects(lost_two, given).tolist() == [[1, 0, 2, 2, 3, 0]]
    on_another = np.array(
        [[0, 0, 1, 1, 3, 0]], np.uint8
    )  # where the lost object was: both take their pixels back
    assert with_all_objects(on_another, given).tolist() == [[1, 1, 2, 2, 3, 0]]
    assert with_all_objects(np.zeros_like(given), given).tolist() == [[1, 1, 2, 2, 3, 0]]


def test_a_network_that_sees_nothing_loses_no_object(world, tmp_path):
    source = VideoClips(world / "data", world / "noisy.zip", 3)
    blind = Grown(
        -30, VideoDataset(world / "data")
    )  # too small by more than the objects measure: it never predicts one
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("noisyvos.training.relabel.measure_bias", lambda *rest: -5.0)
        relabel(
            blind,
            source,
            type("Wanted", (), {"clean_masks": 1, "share": 1.0, "rounds": 1})(),
            0,
            tmp_path / "new.zip",
            "m",
        )
    new = MaskCollection(tmp_path / "new.zip")
    for video in source.videos:
        for frame in video.masks:
            assert set(np.unique(new.read(video.name, frame))) == set(
                np.unique(source.labels(video, frame))
            )


class Reach(VideoModel):
    """A network that knows the true objects of a frame and learns one number.

    How far beyond them labels reach, in pixels.
    """

    memory_settings = Settings

    def __init__(self, dataset: VideoDataset) -> None:
        super().__init__()
        self.reach = torch.nn.Parameter(torch.zeros(()))
        self.distances = {}
        for sequence in dataset.sequences:
            for frame in ("00000", *DATA):
                mask = dataset.read_mask(sequence, frame)
                both = np.stack([signed_distance(mask == label) for label in (1, 5)])
                self.distances[dataset.read_frame(sequence, frame).tobytes()] = torch.from_numpy(
                    both
                ).float()

    def logits(self, frame: torch.Tensor, objects) -> torch.Tensor:
        """Return the logits (1 + objects, H, W) of a frame (3, H.

        W) for objects 0 (label 1) and 1 (label 5).
        """
        picture = (frame * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        seen = 2 * (self.reach + 0.5 - self.distances[picture.tobytes()])[objects]
        return torch.cat([torch.zeros_like(seen[:1]), seen])

    def forward_clip(self, clip, *, generator):
        where = [[(1, 5).index(label) for label in objects] for objects in clip.origin.objects]
        times = range(1, clip.frames.shape[1])
        frames = [
            torch.stack(
                [
                    self.logits(frames[t], own)
                    for frames, own in zip(clip.frames, where, strict=True)
                ]
            )
            for t in times
        ]
        return ClipOutput(tuple(frames))

    def session(self, *, channels, memory, length):
        outer = self

        class Walk(Session):
            def step(self, frame, *, given=None, last=False):
                with torch.no_grad():
                    return outer.logits(frame, list(range(channels))).softmax(0)

            def memory_usage(self):
                return {}

        return Walk()


def test_labels_that_reach_too_far_are_learned_by_cross_entropy_and_taken_back_by_sc(
    tmp_path, monkeypatch
):
    """All labels are three pixels too large.

    With a share of next to nothing nothing is corrected, and `sc` is `ce_plain`.
    """
    world = make_world(tmp_path)
    dataset = VideoDataset(world / "data")
    grown = []
    for sequence in dataset.sequences:
        for frame in ("00000", *DATA):
            mask = dataset.read_mask(sequence, frame)
            near = [
                np.where(signed_distance(mask == label) <= 3, np.uint8(label), np.uint8(0))
                for label in (1, 5)
            ]
            grown.append((sequence, frame, np.where(near[0] > 0, near[0], near[1])))
    write_mask_zip(world / "noisy.zip", grown)
    entries = {
        "plain": {"kind": "ce_plain"},
        "sc": {"kind": "sc", "clean_masks": 3},
        "off": {"kind": "sc", "share": 0.01},
    }
    (world / "params" / "methods.yaml").write_text(yaml.safe_dump(entries))
    schedule = {
        "iterations": 60,
        "batch": 3,
        "learning_rate": 0.2,
        "decay": "cosine",
        "weight_decay": 0,
        "augmentation": "none",
    }
    (world / "params" / "train.yaml").write_text(yaml.safe_dump({"short": schedule}))
    monkeypatch.setattr("noisyvos.models.build", lambda *kind, **rest: Reach(dataset))
    reach = {}
    for name in entries:
        out = {
            key: tmp_path / name / key
            for key in ("weights.safetensors", "summary", "curve", "scratch")
        }
        out["weights"] = out.pop("weights.safetensors")
        names = {
            "model": "small",
            "method": name,
            "schedule": "short",
            "seed": 0,
            "preset": "toy",
            "cell": "one",
        }
        task = TrainingTask(
            stage="train", **names, **out, params=world / "params", device="cpu", track=False
        )
        train.run(
            task, dataset=world / "data", masks=world / "noisy.zip", manifest=world / "noisy.json"
        )
        reach[name] = float(load_file(out["weights"])["reach"])
    assert reach["plain"] > 2.0
    assert abs(reach["sc"]) < 0.5 * reach["plain"]
    assert reach["off"] == reach["plain"]


def test_still_images_are_refused(world):
    class Stills:
        def sizes(self):
            return {(32, 40)}

    (world / "params" / "methods.yaml").write_text(yaml.safe_dump({"sc": {"kind": "sc"}}))
    outputs = dict.fromkeys(("weights", "summary", "curve", "scratch"), world / "x")
    names = {
        "model": "small",
        "method": "sc",
        "schedule": "short",
        "seed": 0,
        "preset": "toy",
        "cell": "one",
    }
    task = TrainingTask(
        stage="pretrain", **names, **outputs, params=world / "params", device="cpu", track=False
    )
    with pytest.raises(UserError, match="cannot be used in `noisyvos pretrain`"):
        tasks.carry_out(task, lambda schedule: Stills(), {}, {})
