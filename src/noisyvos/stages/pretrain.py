"""Stage `pretrain`: train a network on clips of still images, the start of many cells."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from noisyvos.training.clip_readers import LiveClips, StoredClips
from noisyvos.training.schedule import Schedule
from noisyvos.training.task import TrainingTask, carry_out


def run(task: TrainingTask, *, clips: Path, recipe: str | None = None) -> None:
    """Train on the clips of `synth` in `clips`.

    With `recipe` (of synth.yaml), `clips` is a converted image dataset and the clips are made
    during training: in the first epoch those of seed 0, which `synth` would store, afterwards new
    ones. UserError or FileNotFoundError before the first step if an input is missing or wrong.
    """
    if not clips.exists():
        raise FileNotFoundError(
            f"{clips}: no such {'images' if recipe else 'clips. Make them with `noisyvos synth`'}."
        )
    if recipe is None:
        carry_out(task, partial(_stored, clips), {"clips": clips}, {"clips": clips.name})
        return
    inputs = {"images": clips, "recipes": task.params / "synth.yaml"}
    carry_out(
        replace(task, recipe=recipe),
        partial(_live, clips, recipe, task.params),
        inputs,
        {"clips": f"{clips.name}-{recipe}-s0"},
    )


def _stored(clips: Path, schedule: Schedule) -> StoredClips:
    return StoredClips(clips, schedule.clip_length)


def _live(images: Path, recipe: str, params: Path, schedule: Schedule) -> LiveClips:
    return LiveClips(images, recipe, params, schedule.clip_length)
