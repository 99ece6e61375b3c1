"""Stage `pretrain`: train a network on clips made from still images, once for all cells that start from it."""

from pathlib import Path

from noisyvos.training.sources import StillSource
from noisyvos.training.task import Task, carry_out


def run(task: Task, *, clips: Path) -> None:
    """Train on the clips of `synth` in `clips`; UserError or FileNotFoundError before the first step if anything is wrong."""
    if not clips.exists():
        raise FileNotFoundError(f"{clips}: no such clips. Make them with `noisyvos synth`.")
    carry_out(task, lambda schedule: StillSource(clips, schedule.clip_length), {"clips": clips}, {"clips": clips.name})
