"""Live clips: one epoch trains as stored clips do, later epochs bring new clips."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from still_images import write_images
from training_world import SCHEDULE

from noisyvos.errors import UserError
from noisyvos.stages import pretrain, synth
from noisyvos.training.batches import feed, make_batch
from noisyvos.training.clip_readers import LiveClips, StoredClips
from noisyvos.training.schedule import Schedule

CLIPS = 10
RECIPES = {
    "small": {"kind": "xmem_static", "clips": CLIPS, "crop": 48, "shard": 4},
    "large": {"kind": "xmem_static", "clips": CLIPS, "crop": 136},  # stored as JPEG
    "coco": {"kind": "coco_clips", "clips": CLIPS, "crop": 48},
}
STILL = SCHEDULE | {"augmentation": "still", "objects": 1}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    write_images(root / "stills", {number: [[24, 14, 56, 46]] for number in range(3)})
    (root / "params").mkdir()
    model = {"kind": "xmem_tiny", "width": 8, "key_dim": 8, "value_dim": 16, "hidden_dim": 8}
    families = {
        "synth": RECIPES,
        "models": {"small": model},
        "methods": {"plain": {"kind": "ce_plain"}},
        "train": {"short": STILL},
    }
    for family, content in families.items():
        (root / "params" / f"{family}.yaml").write_text(yaml.safe_dump(content))
    for recipe in RECIPES:
        synth.run(
            root / "stills",
            recipe=recipe,
            out=root / f"stills-{recipe}-s0",
            seed=0,
            params=root / "params",
        )
    return root


def live(world: Path, recipe: str) -> LiveClips:
    return LiveClips(world / "stills", recipe, world / "params", 3)


@pytest.mark.parametrize("recipe", RECIPES)
def test_batches_of_the_first_epoch_are_those_of_the_stored_clips(world: Path, recipe: str) -> None:
    stored, schedule = StoredClips(world / f"stills-{recipe}-s0", 3), Schedule(**STILL)
    made = live(world, recipe)
    assert (len(made), made.sizes(), made.name) == (len(stored), stored.sizes(), stored.name)
    for iteration in range(CLIPS // schedule.batch):
        one, other = (
            make_batch(stored, schedule, 0, iteration),
            make_batch(made, schedule, 0, iteration),
        )
        assert one.keys == other.keys
        assert torch.equal(one.frames, other.frames)
        assert torch.equal(one.masks, other.masks)


def test_later_epochs_bring_new_clips(world: Path) -> None:
    schedule = Schedule(**STILL | {"iterations": 15})
    stored, made = StoredClips(world / "stills-small-s0", 3), live(world, "small")
    seen = {
        source: [key[1] for batch in feed(source, schedule, 0, 0, 0) for key in batch.keys]
        for source in (stored, made)
    }
    assert sorted(seen[stored]) == sorted(3 * [str(number) for number in range(CLIPS)])
    assert sorted(map(int, seen[made])) == list(range(3 * CLIPS))
    assert {int(number) for number in seen[made][CLIPS : 2 * CLIPS]} == set(range(CLIPS, 2 * CLIPS))


def test_processes_that_read_ahead_make_the_same_clips(world: Path) -> None:
    schedule = Schedule(**STILL | {"iterations": 6})
    here, ahead = (list(feed(live(world, "small"), schedule, 0, 0, workers)) for workers in (0, 2))
    assert all(
        torch.equal(one.frames, other.frames) for one, other in zip(here, ahead, strict=True)
    )


def carry_out(
    world: Path, out: Path, clips: Path, recipe: str | None, schedule: str = "short"
) -> dict[str, bytes]:
    names = {
        "stage": "pretrain",
        "cell": "cell",
        "preset": "p",
        "model": "small",
        "method": "plain",
        "schedule": schedule,
        "seed": 0,
    }
    outputs = {
        "weights": out / "weights.safetensors",
        "summary": out / "summary.json",
        "curve": out / "curve.csv",
    }
    task = pretrain.TrainingTask(
        **names,
        **outputs,
        params=world / "params",
        scratch=out / "scratch",
        device="cpu",
        track=False,
    )
    pretrain.run(task, clips=clips, recipe=recipe)
    return {path.name: path.read_bytes() for path in outputs.values()}


def test_pretraining_is_the_same_either_way_within_an_epoch(world: Path, tmp_path: Path) -> None:
    path = world / "params/train.yaml"
    path.write_text(yaml.safe_dump({"short": STILL | {"iterations": CLIPS // STILL["batch"]}}))
    stored = carry_out(world, tmp_path / "stored", world / "stills-small-s0", None)
    live = carry_out(world, tmp_path / "live", world / "stills", "small")
    summaries = [json.loads(made.pop("summary.json")) for made in (stored, live)]
    hashes = [summary.pop("code") for summary in summaries]
    assert hashes[0] != hashes[1], "the code of the recipe counts where clips are made live"
    origins = [summary.pop("inputs") for summary in summaries]
    assert live == stored
    assert summaries[0] == summaries[1]
    assert origins[0] != origins[1], "each says which files it was made from"


def test_wrong_requests_are_refused_before_training(world: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing: no such images"):
        carry_out(world, tmp_path, world / "nothing", "small")
    with pytest.raises(
        UserError, match=r"Unknown name in synth\.yaml: 'smal'\. Did you mean 'small'"
    ):
        carry_out(world, tmp_path, world / "stills", "smal")
    with pytest.raises(UserError, match="of kind 'images', but 'clips' is needed"):
        carry_out(world, tmp_path, world / "stills", None)
    with pytest.raises(UserError, match="these clips have 3 frames, the schedule wants 4"):
        LiveClips(world / "stills", "small", world / "params", 4)
