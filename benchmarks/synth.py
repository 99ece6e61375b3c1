"""Speed of synthetic clips: clips per CPU second, and cost relative to decoding the source JPEGs.

    python benchmarks/synth.py                              # 100 synthetic images with 0-8 polygons
    python benchmarks/synth.py --images data/converted/NAME # a converted image dataset
    python benchmarks/synth.py --recipe xmem_static         # the other recipe

One process, one thread, CPU time (the machine may be shared). The synthetic images are 480x640 and
640x480. On images like these the published code makes 16.6-17.6 samples per CPU second, without
its scan of all annotations and without writing anything.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from noisyvos.io.images import encode_frame, read_frame
from noisyvos.synth.clip import encode_clip
from noisyvos.synth.kinds import coco_clips, xmem_static
from noisyvos.synth.recipe import RECIPES

BAR = 1.6  # making a clip of `coco_clips`, in times decoding its sources


def made_up_images(root: Path, count: int = 100) -> None:
    """Write a converted image dataset of noise-like JPEGs with 0 to 8 polygons each."""
    generator = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(count):
        height, width = (480, 640) if number % 2 else (640, 480)
        coarse = generator.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        frame = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        frame = np.clip(frame + generator.normal(0, 6, frame.shape), 0, 255).astype(np.uint8)
        (root / "images" / f"{number}.jpg").write_bytes(encode_frame(frame, 90))
        images.append(
            {"id": number, "file_name": f"{number}.jpg", "height": height, "width": width}
        )
        for _ in range(generator.integers(0, 9)):
            annotations.append(_polygon(generator, len(annotations), number, height, width))
    (root / "instances.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    (root / "meta.json").write_text(json.dumps({"kind": "images", "name": "made_up"}))


def _polygon(
    generator: np.random.Generator, identity: int, image: int, height: int, width: int
) -> dict[str, object]:
    angles = np.sort(generator.uniform(0, 2 * np.pi, 40))
    radius = generator.uniform(20, 140) * generator.uniform(0.7, 1.3, 40)
    centre = generator.uniform((60, 60), (width - 60, height - 60))
    points = np.clip(
        centre + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1),
        0,
        (width - 1, height - 1),
    )
    low, extent = points.min(0), np.ptp(points, 0)
    return {
        "id": identity,
        "image_id": image,
        "segmentation": [points.reshape(-1).tolist()],
        "bbox": [*low.tolist(), *extent.tolist()],
    }


def plain_frame(path: Path) -> np.ndarray:
    """Return an image as Pillow decodes it."""
    return np.array(Image.open(path).convert("RGB"))


def least_seconds(works: dict[str, list[Callable[[], object]]], rounds: int) -> list[float]:
    """Return the CPU seconds of each list of calls: the least of each call over some rounds.

    The lists take turns, so that what else the machine does disturbs them alike.
    """
    least = {name: np.full(len(calls), np.inf) for name, calls in works.items()}
    for _ in range(rounds):
        for name, calls in works.items():
            for index, call in enumerate(calls):
                start = time.process_time()
                call()
                taken = time.process_time() - start
                least[name][index] = min(least[name][index], taken)
    return [float(times.sum()) for times in least.values()]


def measure(root: Path, recipe: str, clips: int, crop: int, rounds: int) -> dict[str, float]:
    """Return CPU milliseconds per clip for rendering, encoding, and decoding the source JPEGs."""
    cv2.setNumThreads(1)
    kind = RECIPES.get(recipe)
    source = kind.build(root, kind.validate({"clips": clips, "crop": crop}, recipe))
    decoded: list[Path] = []

    def noting(path: Path) -> np.ndarray:
        decoded.append(path)
        return read_frame(path)

    coco_clips.read_frame = xmem_static.read_frame = noting
    made = [source.clip(index) for index in range(10)]  # warm up
    works: dict[str, list[Callable[[], object]]] = {
        "making": [partial(source.clip, index) for index in range(clips)],
        "encoding": [partial(encode_clip, clip) for clip in made],
    }
    decoded.clear()
    for work in works["making"]:
        work()
    works["decoding"] = [partial(plain_frame, path) for path in decoded]
    making, encoding, decoding = least_seconds(works, rounds)
    sources = len(works["decoding"]) / clips
    encoding *= clips / len(made)
    per_clip = 1000 / clips
    return {
        "making": making * per_clip,
        "making and encoding": (making + encoding) * per_clip,
        "decoding sources": decoding * per_clip,
        "sources": sources,
    }


def main() -> int:
    """Measure and print; the exit code is 1 if `coco_clips` is above its bar."""
    parser = argparse.ArgumentParser(description="Clips per CPU second.")
    parser.add_argument(
        "--images", type=Path, help="a converted image dataset; made-up images without it"
    )
    parser.add_argument("--recipe", default="coco_clips", help="a recipe kind")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--crop", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=4, help="the least time of these counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = options.images or Path(folder) / "images"
        if options.images is None:
            made_up_images(root)
        result = measure(root, options.recipe, options.clips, options.crop, options.rounds)
    for name in ("making", "making and encoding"):
        print(
            f"{name:20s} {1000 / result[name]:6.1f} clips per CPU second "
            f"({result[name]:.1f} ms each)"
        )
    print(
        f"{'decoding sources':20s} {result['decoding sources']:6.1f} ms "
        f"for {result['sources']:.2f} images a clip"
    )
    cost = result["making"] / result["decoding sources"]
    limited = options.recipe == "coco_clips"
    bar = f" (bar {BAR})" if limited else ""
    print(f"{'making costs':20s} {cost:6.2f} times decoding its source JPEGs{bar}")
    return 1 if limited and cost > BAR else 0


if __name__ == "__main__":
    sys.exit(main())
