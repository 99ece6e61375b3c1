"""Stage `convert unify`: a still-image set into the layout that the pretraining on static images reads."""

import shutil
from pathlib import Path

from noisyvos.datasets.unify import SETS, Pair, mask_of
from noisyvos.errors import UserError, unknown_name
from noisyvos.io.atomic import atomic_directory
from noisyvos.io.masks import encode_mask
from noisyvos.parallel import ordered_map

_Task = tuple[str, Pair, Path, Path]


def run(name: str, *, source: Path, destination: Path, workers: int = 1) -> None:
    """Write destination/JPEGImages/<NAME>/*.jpg (byte copies) and destination/Annotations/<NAME>/*.png from set `name` in `source`.

    `name` may be written in any case. Both folders are replaced only when complete. Raises UserError or FileNotFoundError.
    """
    known = {known.lower(): known for known in SETS}
    if name.lower() not in known:
        raise unknown_name("image set", name, SETS)
    name = known[name.lower()]
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: no such folder.")
    pairs = list(SETS[name](source))
    if not pairs:
        raise UserError(
            f"{source}: no image of {name} was found here. Check --src against the layout in docs/datasets.md."
        )
    for pair in pairs:
        for file in (pair.image, pair.mask):
            if file is not None and not file.is_file():
                raise FileNotFoundError(f"{file}: this file of {name} is missing.")
    with (
        atomic_directory(destination / "JPEGImages" / name) as images,
        atomic_directory(destination / "Annotations" / name) as masks,
    ):
        tasks: list[_Task] = [(name, pair, images, masks) for pair in pairs]
        done = sum(1 for _ in ordered_map(_convert, tasks, workers, f"unify {name}"))
    print(f"{name}: {done} images with masks in {destination}")


def _convert(task: _Task) -> None:
    name, pair, images, masks = task
    try:
        mask = mask_of(name, pair)
    except UserError as error:
        raise UserError(f"{pair.image.name}: {error}") from None
    shutil.copyfile(pair.image, images / f"{pair.image.stem}.jpg")
    (masks / f"{pair.image.stem}.png").write_bytes(encode_mask(mask))
