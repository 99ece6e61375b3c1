"""Speed of label noise on real masks, against plain full-frame code and against PNG coding.

    python benchmarks/noise.py FOLDER_OF_MASKS [--every 8]

FOLDER_OF_MASKS holds <sequence>/<frame>.png index masks, e.g. the DAVIS annotations at 480p. Times
are CPU times of one process and one thread. The results of both sides are compared, so both do the
same work. At the end, the whole stage `noise` (with what it measures and writes) is compared with
decoding and encoding the PNGs by Pillow's defaults, and with a plain process around the released
generator that reads, changes and writes each mask.
"""

import argparse
import contextlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt, gaussian_filter

from noisyvos.datasets.layout import Sequence, write_video_meta
from noisyvos.io.masks import MaskCollection, davis_palette
from noisyvos.noise import corrupt
from noisyvos.noise.engine.calibration import object_ious
from noisyvos.stages import noise as stage

TARGETS = {"dilate": 5, "erode": 5, "mix": 5, "morph": 3, "mar_smart": 10}
Q = 0.8
OPERATORS = {
    "D": (cv2.dilate, None),
    "E": (cv2.erode, None),
    "EAD": (cv2.dilate, cv2.erode),
    "DAE": (cv2.erode, cv2.dilate),
}
STAGE_BAR = 1.3  # the stage in times decoding and encoding PNGs


def plain_ranked(mask: np.ndarray, grows: Callable[[int], bool]) -> np.ndarray:
    """Rank all pixels of a frame by signed distance per object; the larger distance wins."""
    noisy = np.where(mask == 255, 255, 0).astype(np.uint8)
    best = np.full(mask.shape, -np.inf)
    for i in [i for i in np.unique(mask) if 0 < i < 255]:
        inside = mask == i
        distance = distance_transform_edt(inside) - distance_transform_edt(~inside)
        area = int(inside.sum())
        count = round(area / Q) if grows(int(i)) else round(Q * area)
        chosen = np.zeros(mask.size, bool)
        chosen[np.argsort(-distance.ravel(), kind="stable")[:count]] = True
        wins = chosen.reshape(mask.shape) & (distance > best) & (mask != 255)
        noisy[wins], best[wins] = i, distance[wins]
    return noisy


def plain_morph(
    mask: np.ndarray, first: Callable, second: Callable | None, iterations: int
) -> np.ndarray:
    """Apply one operator to every label on the whole frame, as the released generator does."""
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    noisy = np.zeros_like(mask)
    for label in np.unique(mask)[1:]:
        picture = first((mask == label).astype(np.uint8), element, iterations=iterations)
        if second is not None:
            picture = second(picture, element, iterations=iterations)
        noisy[picture != 0] = label
    noisy[noisy == 255] = 0
    return noisy


def plain_mar(mask: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Walk the boundary band on the whole frame, as the released generator does."""
    noisy = np.zeros_like(mask)
    square = np.ones((3, 3), bool)
    for label in [i for i in np.unique(mask) if i]:
        inside = mask == label
        band = binary_dilation(inside, square) ^ binary_erosion(inside, square)
        for _ in range(30):
            free = random.rand(*mask.shape) < 0.5
            change = binary_dilation if random.rand() > 0.5 else binary_erosion
            band = np.where(free, change(band, square), band)
        noisy[gaussian_filter(np.where(band, 1.0, inside), 3.0) > 0.5] = label
    noisy[noisy == 255] = 0
    return noisy


def milliseconds(
    work: Callable[[int, np.ndarray], np.ndarray], masks: list[np.ndarray], rounds: int
) -> tuple[float, list[np.ndarray]]:
    """Return the CPU time per mask, the least of `rounds` passes, and the results."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        results = [work(k, mask) for k, mask in enumerate(masks)]
        times.append(1e3 * (time.process_time() - start) / len(masks))
    return min(times), results


def pairs() -> dict[str, tuple[Callable, Callable]]:
    """Return for every timed kind ours and the plain one, both as (index, mask) -> noisy mask."""
    random = np.random.RandomState(0)
    table: dict[str, tuple[Callable, Callable]] = {
        "dilate": (
            lambda k, m: corrupt(m, "dilate", q=Q, key=("x", k)),
            lambda k, m: plain_ranked(m, lambda i: True),
        ),
        "erode": (
            lambda k, m: corrupt(m, "erode", q=Q, key=("x", k)),
            lambda k, m: plain_ranked(m, lambda i: False),
        ),
        "mix": (
            lambda k, m: corrupt(m, "mix", q=Q, key=("x", k)),
            lambda k, m: plain_ranked(m, lambda i: (k + i) % 2 == 0),
        ),
    }
    for name, (first, second) in OPERATORS.items():
        table[f"morph {name}"] = (
            lambda k, m, name=name: corrupt(
                m, "morph", operator=name, kernel=5, iterations=3, parity=True
            ),
            lambda k, m, first=first, second=second: plain_morph(m, first, second, 3),
        )
    table["mar_smart"] = (
        lambda k, m: corrupt(m, "mar_smart", parity=True, key=("x", k)),
        lambda k, m: plain_mar(m, random),
    )
    return table


def check(
    name: str, masks: list[np.ndarray], ours: list[np.ndarray], plain: list[np.ndarray]
) -> str:
    """Return how the results of both sides compare, in a few words."""
    if name.startswith("morph"):
        equal = sum(np.array_equal(a, b) for a, b in zip(ours, plain))
        return f"{equal} of {len(masks)} frames byte-equal"
    means = [
        np.mean([iou for m, n in zip(masks, side) for iou in object_ious(m, n).values()])
        for side in (ours, plain)
    ]
    return f"mean IoU {means[0]:.4f}, plain {means[1]:.4f}"


def encode_plain(mask: np.ndarray) -> bytes:
    """Return PNG bytes of a mask by Pillow's defaults."""
    image, buffer = Image.fromarray(mask), io.BytesIO()
    image.putpalette(davis_palette().tobytes())
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def decode_plain(data: bytes) -> np.ndarray:
    """Return the mask of PNG bytes."""
    return np.array(Image.open(io.BytesIO(data)))


def whole_stage(folders: list[str], every: int, rounds: int = 4) -> bool:
    """Compare the stage with PNG coding and with a plain process; return whether the bar is kept.

    All three take turns, and the least time of each counts.
    """
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        files, sequences = [], []
        for number, folder in enumerate(folders):
            collection = MaskCollection(folder)
            for name in collection.sequences():
                frames = collection.frames(name)[::every]
                own = f"{number}-{name}"
                (root / "masks" / own).mkdir(parents=True)
                masks = [collection.read(name, frame) for frame in frames]
                for frame, mask in zip(frames, masks, strict=True):
                    files.append(root / "masks" / own / f"{frame}.png")
                    files[-1].write_bytes(encode_plain(mask))
                ids = sorted(set().union(*(np.unique(mask).tolist() for mask in masks)) - {0, 255})
                sequences.append(Sequence(own, frames, frames, masks[0].shape, tuple(ids)))
        write_video_meta(root, "masks", sequences)
        (root / "noise.yaml").write_text(
            "".join(
                f"{name}: {{kind: morph, operator: {name}, kernel: 5, iterations: 3, "
                "parity: true}\n"
                for name in OPERATORS
            )
        )
        ratios = [_compare_stage(root, files, name, rounds) for name in OPERATORS]
    print(
        f"summary: stage, morph: {min(ratios):.2f} to {max(ratios):.2f} times PNG (bar {STAGE_BAR})"
    )
    return max(ratios) <= STAGE_BAR


def _compare_stage(root: Path, files: list[Path], name: str, rounds: int) -> float:
    """Print the times of all three and return the stage's in times PNG coding."""

    def run_stage() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            stage.run(root, noise=name, out=root / "o.zip", manifest=root / "o.json", params=root)

    def code() -> None:
        for file in files:
            encode_plain(decode_plain(file.read_bytes()))

    def published() -> None:
        for file in files:
            noisy = plain_morph(decode_plain(file.read_bytes()), *OPERATORS[name], 3)
            (root / "noisy.png").write_bytes(encode_plain(noisy))

    least: dict[str, float] = {}
    for _ in range(rounds):
        for work in (run_stage, code, published):
            start = time.process_time()
            work()
            taken = 1e3 * (time.process_time() - start) / len(files)
            least[work.__name__] = min(taken, least.get(work.__name__, taken))
    ours, png, plain = (least[each] for each in ("run_stage", "code", "published"))
    print(
        f"stage, morph {name:3s}: {ours:.2f} ms a mask; PNG {png:.2f}, ratio {ours / png:.2f} "
        f"(bar {STAGE_BAR}); plain process {plain:.2f}, ratio {ours / plain:.2f}",
        flush=True,
    )
    return ours / png


def main() -> int:
    """Print one table; the exit code is 1 if a kind misses its target."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("masks", nargs="+", help="folders of <sequence>/<frame>.png")
    parser.add_argument("--every", type=int, default=8, help="use every n-th frame")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    masks = []
    for folder in arguments.masks:
        collection = MaskCollection(folder)
        masks += [
            collection.read(s, f)
            for s in collection.sequences()
            for f in collection.frames(s)[:: arguments.every]
        ]
    encoded = [encode_plain(mask) for mask in masks]
    png, _ = milliseconds(lambda k, m: encode_plain(decode_plain(encoded[k])), masks, 3)
    print(
        f"{len(masks)} masks of {sorted({m.shape for m in masks})}; "
        f"PNG decode + encode: {png:.2f} ms a mask\n"
    )
    print(
        f"{'kind':10} {'ours ms':>8} {'plain ms':>9} {'faster':>7} "
        f"{'target':>7} {'x PNG':>6}   check"
    )
    ratios: dict[str, float] = {}
    for name, (ours, plain) in pairs().items():
        fast, fast_results = milliseconds(ours, masks, 3)
        slow, slow_results = milliseconds(plain, masks, 1)
        target = TARGETS[name.split()[0]]
        verdict = check(name, masks, fast_results, slow_results)
        ratios[name] = slow / fast
        print(
            f"{name:10} {fast:8.2f} {slow:9.2f} {slow / fast:6.1f}x "
            f"{target:6d}x {fast / png:6.2f}   {verdict}",
            flush=True,
        )
    print(
        "summary: times as fast as plain: "
        + ", ".join(f"{name} {ratio:.1f}" for name, ratio in ratios.items())
    )
    print()
    reached = whole_stage(arguments.masks, max(1, arguments.every // 4))
    return int(
        not reached or any(ratio < TARGETS[name.split()[0]] for name, ratio in ratios.items())
    )


if __name__ == "__main__":
    sys.exit(main())
