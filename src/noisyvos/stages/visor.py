"""Stage `convert visor`: one set of VISOR into VISOR_2022/, beside the other set if it is there."""

import re
import sys
from dataclasses import replace
from pathlib import Path

from noisyvos.datasets.visor import carry_over, convert_set, set_tasks
from noisyvos.errors import UserError
from noisyvos.io.atomic import output_directory

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
    """Convert set `subset` (train or val) into `out`/VISOR_2022, replaced only when complete.

    What an earlier conversion of the same set wrote there is removed; the other set stays.
    `size` is <width>x<height>; `keep_all` is that of `set_tasks`. UserError or FileNotFoundError
    names a file that cannot be used.
    """
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", size)
    if match is None:
        raise UserError(f"--size {size}: give width and height in pixels, such as 854x480.")
    root = out / ROOT
    tasks = set_tasks(
        annotations,
        images,
        subset,
        out=root,
        size=(int(match[2]), int(match[1])),
        keep_all=keep_all,
        strict=strict,
    )
    with output_directory(
        root, "convert visor", inputs=(annotations, images), checked=True
    ) as folder:
        carry_over(root, folder, subset, {task.name for task in tasks})
        sequences = convert_set(
            [replace(task, out=folder) for task in tasks], subset, folder, workers
        )
    for task in tasks:
        if warning := task.warning():
            print(f"noisyvos: warning: {warning}", file=sys.stderr)
    remaining = sum(sequence.masks > 0 for sequence in sequences)
    masks = sum(sequence.masks for sequence in sequences)
    print(f"visor {subset}: {remaining} of {len(sequences)} sequences, {masks} masks in {root}")
