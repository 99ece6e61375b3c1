"""The small networks of STM and AFB-URR through the real stages, from generated data to masks.

Two steps each, in a temporary folder.
"""

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml

from noisyvos import methods, models
from noisyvos.datasets.layout import VideoDataset
from noisyvos.io.masks import MaskCollection
from noisyvos.models.base import Clip
from noisyvos.stages import convert, generate, infer, noise, pretrain, synth, train
from noisyvos.training.schedule import Schedule
from noisyvos.training.step import make_learner, take_step
from noisyvos.training.task import TrainingTask

PARAMS = {
    "sources": {
        "toy": {
            "kind": "shapes",
            "seed": 3,
            "train_sequences": 2,
            "val_sequences": 1,
            "frames": 5,
            "images": 4,
            "height": 60,
            "width": 80,
        }
    },
    "datasets": {
        "images": {
            "kind": "coco",
            "source": "toy",
            "images": "images/train",
            "annotations": "annotations/instances_train.json",
        },
        "videos": {"kind": "folder", "source": "toy", "split": "train", "size": 48},
        "held_out": {"kind": "folder", "source": "toy", "split": "val", "size": 48},
    },
    "synth": {"clips": {"kind": "coco_clips", "clips": 4, "crop": 48}},
    "noise": {"clean": {"kind": "clean"}},
    "models": {
        "small": {"kind": "stm_tiny", "width": 8, "key_dim": 8, "value_dim": 16, "decoder_dim": 16},
        "bank": {
            "kind": "afb_urr_tiny",
            "width": 8,
            "key_dim": 8,
            "value_dim": 16,
            "decoder_dim": 16,
            "local_dim": 8,
        },
    },
    "methods": {"ce": {"kind": "ce_plain", "dice": 0}},
    "train": {
        "stills": {
            "iterations": 2,
            "batch": 2,
            "parts": 2,
            "learning_rate": 1e-3,
            "optimizer": "adam",
            "weight_decay": 0,
            "augmentation": "none",
        },
        "videos": {
            "iterations": 2,
            "batch": 2,
            "learning_rate": 1e-3,
            "augmentation": "video_stm",
            "crop": 40,
            "reverse": 0,
        }
        | {"max_jump": [[0, 1], [0.5, 2]], "objects": 3, "network": {"detach_memory": True}},
        "any": {
            "iterations": 4,
            "batch": 1,
            "learning_rate": 1e-3,
            "augmentation": "video_afb",
            "crop": 40,
            "sampler": "any",
        }
        | {"decay": "steps", "drops": [2], "drop_factor": 0.5, "log_every": 1},
        "wrong": {"iterations": 2, "learning_rate": 1e-3, "network": {"detach": True}},
    },
    "eval": {"default": {"memory": {"stm_tiny": {"number": 2}}}},
}


def task(root: Path, stage: str, schedule: str, **more: object) -> TrainingTask:
    """Return a training of the small network whose outputs lie in <root>/<stage>."""
    outputs = {
        name: root / stage / f"{name}.{suffix}"
        for name, suffix in {"weights": "safetensors", "summary": "json", "curve": "csv"}.items()
    }
    names = {
        "model": "small",
        "method": "ce",
        "schedule": schedule,
        "seed": 0,
        "preset": "toy",
        "cell": stage,
    } | more
    return TrainingTask(
        stage="pretrain" if stage == "pretrain" else "train",
        **names,
        **outputs,
        params=root / "params",
        scratch=root / "scratch",
        device="cpu",
        track=False,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Parameter files, generated data, converted, clips and labels."""
    root = tmp_path_factory.mktemp("stm")
    params = root / "params"
    params.mkdir()
    for family, entries in PARAMS.items():
        (params / f"{family}.yaml").write_text(yaml.safe_dump(entries))
    generate.run("toy", out=root / "raw", inventory=root / "raw.json", params=params)
    for name in PARAMS["datasets"]:
        convert.run(name, raw=root / "raw", out=root / name, params=params)
    synth.run(root / "images", recipe="clips", out=root / "clips", seed=0, params=params)
    noise.run(
        root / "videos",
        noise="clean",
        out=root / "labels.zip",
        manifest=root / "labels.json",
        params=params,
    )
    return root


def test_pretraining_training_and_inference(root) -> None:
    pretrain.run(task(root, "pretrain", "stills"), clips=root / "clips")
    start = root / "pretrain" / "weights.safetensors"
    labels = {
        "dataset": root / "videos",
        "masks": root / "labels.zip",
        "manifest": root / "labels.json",
    }
    train.run(task(root, "train", "videos", init=start), **labels)
    found = json.loads((root / "train" / "summary.json").read_text())
    assert found["model"]["kind"] == "stm_tiny"
    assert found["schedule"]["network"] == {"detach_memory": True}
    assert set(found["final"]) >= {"loss", "ce"}
    assert "dice" not in found["final"]
    assert "network" not in json.loads((root / "pretrain" / "summary.json").read_text())["schedule"]
    trained = root / "train" / "weights.safetensors"
    assert trained.read_bytes() != start.read_bytes()
    infer.run(
        root / "held_out",
        out=root / "masks.zip",
        model="small",
        weights=str(trained),
        params=root / "params",
        device="cpu",
    )
    (sequence,) = VideoDataset(root / "held_out").sequences.values()
    masks = MaskCollection(root / "masks.zip")
    assert masks.frames(sequence.name) == tuple(sorted(sequence.frames))
    assert masks.read(sequence.name, sequence.frames[0]).max() > 0


def test_training_and_inference_of_a_network_with_a_loss_of_its_own(root) -> None:
    labels = {
        "dataset": root / "videos",
        "masks": root / "labels.zip",
        "manifest": root / "labels.json",
    }
    train.run(task(root, "bank", "any", model="bank"), **labels)
    rows = list(csv.DictReader((root / "bank" / "curve.csv").open()))
    assert [float(row["learning_rate"]) for row in rows] == [1e-3, 1e-3, 5e-4, 5e-4]
    for row in rows:
        assert (
            0.4 < float(row["uncertainty"]) <= 1
        )  # two frames at a weight of a half, with next to no training
        assert float(row["loss"]) == pytest.approx(
            float(row["ce"]) + float(row["uncertainty"]), rel=1e-3
        )
    weights = str(root / "bank" / "weights.safetensors")
    infer.run(
        root / "held_out",
        out=root / "bank.zip",
        model="bank",
        weights=weights,
        params=root / "params",
        device="cpu",
    )
    (sequence,) = VideoDataset(root / "held_out").sequences.values()
    assert MaskCollection(root / "bank.zip").frames(sequence.name) == tuple(sorted(sequence.frames))


def test_a_batch_in_parts_has_the_gradients_and_terms_of_the_whole() -> None:
    frames = torch.rand(4, 3, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(4, 3, 32, 40, dtype=torch.long)
    masks[:, :, 5:20, 6:25] = 1
    masks[2:, :, 18:30, 20:36] = 2
    clip = Clip(
        frames,
        masks,
        torch.tensor([1, 1, 2, 2]),
        slots=3,
        keys=tuple((str(row),) for row in range(4)),
        clean=masks,
    )
    found = {}
    for parts in (1, 2, 4):
        schedule = Schedule(iterations=2, batch=4, parts=parts, learning_rate=1e-3)
        model = models.build("stm_tiny", width=8, key_dim=8, value_dim=16, decoder_dim=16)
        learner = make_learner(
            model,
            methods.build("smart", preset="unit", total_iterations=2),
            schedule,
            0,
            torch.device("cpu"),
        )
        result = take_step(learner, clip, 0)
        gradients = [weight.grad for weight in learner.weights if weight.grad is not None]
        values = (
            *gradients,
            result.loss,
            result.terms["ce"],
            *result.output.logits,
            *result.teacher.logits,
        )
        found[parts] = [value.detach() for value in values]
        assert result.terms["ce"].shape == (4,)
    for parts in (2, 4):
        for one, other in zip(found[1], found[parts], strict=True):
            assert torch.allclose(one, other, rtol=1e-3, atol=1e-5 * float(one.abs().max()) + 1e-7)


def test_parts_must_divide_the_batch() -> None:
    with pytest.raises(ValueError, match="multiple of `parts`"):
        Schedule(iterations=2, batch=4, parts=3, learning_rate=1e-3)
    assert "parts" not in Schedule(iterations=2, learning_rate=1e-3).result_settings()


def test_an_unknown_setting_of_the_network_is_refused(root) -> None:
    with pytest.raises(ValueError, match=r"Unknown setting of model 'stm_tiny'.*detach"):
        pretrain.run(task(root, "refused", "wrong"), clips=root / "clips")
    assert not (root / "refused").exists()
