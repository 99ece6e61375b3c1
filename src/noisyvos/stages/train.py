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

    Videos that the manifest lists as `left_out` take no part: drawn labels do not cover them.
    The dataset's own masks serve diagnostics only. UserError or FileNotFoundError before the first
    step if an input is missing or wrong.
    """
    found = _read(manifest)
    if not masks.exists():
        raise FileNotFoundError(f"{masks}: no such labels. Make them with `noisyvos noise`.")
    carry_out(
        task,
        partial(_open, dataset, masks, tuple(found.get("left_out", ()))),
        {"masks": masks, "dataset": dataset, "noise_manifest": manifest},
        {"dataset": dataset.name, "noise": _noise(found)},
    )


def _open(dataset: Path, masks: Path, left_out: tuple[str, ...], schedule: Schedule) -> VideoClips:
    needed = frames_needed(schedule.sampler, schedule.clip_length)
    return VideoClips(dataset, masks, needed, left_out=left_out)


def _read(manifest: Path) -> dict[str, Any]:
    if not manifest.is_file():
        raise FileNotFoundError(f"{manifest}: no such noise manifest. Run `noisyvos noise` first.")
    return read_form(manifest, NoiseManifest, "Run `noisyvos noise` again.")


def _noise(found: dict[str, Any]) -> dict[str, Any]:
    """Return the noise of a whole dataset: name, kind, target and achieved."""
    return {
        **{key: found[key] for key in ("noise", "kind", "q", "seed") if key in found},
        **found["summary"],
    }
