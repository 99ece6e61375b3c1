"""Stage `convert unify`: a still-image set into JPEGImages/<NAME> and Annotations/<NAME>."""

from pathlib import Path

from noisyvos.datasets.stills import find_set, unify
from noisyvos.io.atomic import output_directory


def run(name: str, *, source: Path, destination: Path, workers: int = 1) -> None:
    """Write JPEGImages/<NAME>/*.jpg and Annotations/<NAME>/*.png below `destination`.

    Both folders are replaced only when complete. Raises as `find_set` and `Pair.read_mask`.
    """
    name, pairs = find_set(name, source)
    with (
        output_directory(
            destination / "JPEGImages" / name, "convert unify", inputs=(source,), listed=True
        ) as images,
        output_directory(
            destination / "Annotations" / name, "convert unify", inputs=(source,), listed=True
        ) as masks,
    ):
        done = unify(name, pairs, images, masks, workers)
    print(f"{name}: {done} images with masks in {destination}")
