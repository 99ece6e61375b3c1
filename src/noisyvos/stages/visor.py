"""Stage `convert visor`: one set of VISOR into VISOR_2022/, beside the other set if that is there already."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

from noisyvos.datasets.visor import (
    LEAST_MASKS,
    VisorTask,
    convert_sequence,
    read_visor,
    write_lists,
)
from noisyvos.errors import UserError
from noisyvos.io.atomic import atomic_directory
from noisyvos.parallel import ordered_map

ROOT = "VISOR_2022"


def run(
    *,
    annotations: Path,
    images: Path,
    subset: str,
    keep_all: bool | None,
    size: str,
    out: Path,
    strict: bool = False,
    workers: int = 1,
) -> None:
    """Convert set `subset` (train or val) into out/VISOR_2022, replaced only when complete.

    What an earlier conversion of the same set left there goes; the other set stays. `keep_all` None is the published
    convention: train keeps all objects, val those of the first frame. Raises UserError or FileNotFoundError.
    """
    if subset not in LEAST_MASKS:
        raise UserError(f"Unknown set {subset!r}: VISOR has masks for {' and '.join(LEAST_MASKS)}.")
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", size)
    if match is None:
        raise UserError(f"--size {size}: give width and height in pixels, such as 854x480.")
    resolution = (int(match[2]), int(match[1]))
    entries = read_visor(annotations / subset)
    keep = subset == "train" if keep_all is None else keep_all
    root = out / ROOT
    with atomic_directory(root) as folder:
        _carry_over(root, folder, subset, set(entries))
        tasks = [
            VisorTask(
                name, tuple(frames), images, folder, resolution, keep, strict, LEAST_MASKS[subset]
            )
            for name, frames in entries.items()
        ]
        sequences = list(ordered_map(convert_sequence, tasks, workers, f"visor {subset}"))
        remaining = write_lists(folder, subset, sequences)
    for sequence in sequences:
        if sequence.empty_first_frame:
            fate = (
                "it is left out"
                if strict
                else "all objects of later frames are drawn and their ids may change from frame to frame"
            )
            print(
                f"noisyvos: warning: {sequence.name} has no object in its first frame; {fate}.",
                file=sys.stderr,
            )
    masks = sum(sequence.masks for sequence in sequences)
    print(
        f"visor {subset}: {len(remaining)} of {len(sequences)} sequences, {masks} masks in {root}"
    )


def _carry_over(old: Path, new: Path, subset: str, sequences: set[str]) -> None:
    """Hard-link everything of an existing output into the new one, except what belongs to `subset`."""
    if not old.is_dir():
        return
    for other in sorted(LEAST_MASKS.keys() - {subset}):
        shared = sorted(_mapped(old, other) & sequences)
        if shared:
            raise UserError(
                f"{old}: the sequence {shared[0]} is already there as part of {other}. Give {subset} another --out."
            )
    replaced = _mapped(old, subset) | sequences
    lists = {f"{subset}.txt", f"{subset}_data_mapping.json"} | (
        {"val_unseen.txt"} if subset == "val" else set()
    )
    for file in sorted(path for path in old.rglob("*") if path.is_file()):
        relative = file.relative_to(old)
        of_sequence = (
            relative.parts[0] in ("Annotations", "JPEGImages")
            and len(relative.parts) == 4
            and relative.parts[2] in replaced
        )
        if of_sequence or file.name in lists:
            continue
        target = new / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, target)
        except OSError:
            shutil.copy2(file, target)


def _mapped(root: Path, subset: str) -> set[str]:
    path = root / f"{subset}_data_mapping.json"
    return set(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else set()
