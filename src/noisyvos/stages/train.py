"""Stage `train`: main training of one grid cell on videos with (noisy) labels."""

from functools import partial
from pathlib import Path
from typing import Any

from noisyvos.datasets.sampling import frames_needed
from noisyvos.io.forms import NoiseManifest, read_form
from noisyvos.training.clip_readers import VideoClips
from noisyvos.training.schedule import Schedule
from noisyvos.training.task import TrainingTask, carry_out


def run(task: TrainingTask, *, dataset: Path, masks: Path, manifest: Path) -> None:
    """Train on the frames of `dataset` with the labels of `masks`.

    The dataset's own masks serve diagnostics only. UserError or FileNotFoundError before the first
    step if an input is missing or wrong.
    """
    noise = read_noise(manifest)
    if not masks.exists():
        raise FileNotFoundError(f"{masks}: no such labels. Make them with `noisyvos noise`.")
    carry_out(
        task,
        partial(_open, dataset, masks),
        {"masks": masks, "dataset": dataset, "noise_manifest": manifest},
        {"dataset": dataset.name, "noise": noise},
    )


def _open(dataset: Path, masks: Path, schedule: Schedule) -> VideoClips:
    return VideoClips(dataset, masks, frames_needed(schedule.sampler, schedule.clip_length))


def read_noise(manifest: Path) -> dict[str, Any]:
    """Return the noise of a whole dataset from its manifest: name, kind, target and achieved."""
    if not manifest.is_file():
        raise FileNotFoundError(f"{manifest}: no such noise manifest. Run `noisyvos noise` first.")
    found = read_form(manifest, NoiseManifest, "Run `noisyvos noise` again.")
    return {
        **{key: found[key] for key in ("noise", "kind", "q", "seed") if key in found},
        **found["summary"],
    }
