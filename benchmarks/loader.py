"""How fast training samples of video are made.

Per core, against decoding alone, and which GPU that keeps busy.

python benchmarks/loader.py ../shared/data/real-clips # any folder that dataset kind `folder` reads

The clips are converted to a temporary folder: as they are for the published schedules, reduced to
48 pixels for that of the demo. Samples are made as in training (frames read anew, except for the
demo, whose data stays in memory), in one process with one thread. CPU time counts, so that the
machine may be shared. `decoding` is Pillow decoding the very frames and masks of those samples, and
`cost` is in times that. `own` is the cost in times this project's decoding of them. A GPU is kept
busy by N reading processes on N cores if its step takes at least batch / (N x samples per second).
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from noisyvos.datasets.base import DATASETS, Conversion
from noisyvos.io.images import read_frame
from noisyvos.io.masks import decode_mask
from noisyvos.params.entries import read_family
from noisyvos.seeding import numpy_generator
from noisyvos.training.batches import byte_batch
from noisyvos.training.clip_readers import CACHE_BYTES, Drawing, VideoClips
from noisyvos.training.distributed import ALONE
from noisyvos.training.schedule import Schedule

PARAMS = Path(__file__).resolve().parents[1] / "params"
FLAWED = (
    "cutie-judo"  # an example of published masks that do not fit their frames; left out where it is
)
DEMO_SIDE = 48
BATCHES = 2  # that are made again and again


@dataclass(frozen=True)
class Case:
    """One recipe.

    Its schedule of train.yaml, what is changed in it, the shorter side of the frames, and the
    cache.
    """

    schedule: str
    changes: dict[str, int]
    side: int | None = None
    cache_bytes: int = 0


CASES = {
    "XMem, stages 2 and 3": Case("xmem_stage3", {}),
    "STM on VISOR": Case("stm_visor", {}),
    "demo": Case("demo_main", {"crop": DEMO_SIDE}, DEMO_SIDE, CACHE_BYTES),
}


def converted(raw: Path, out: Path, side: int | None) -> Path:
    """Return the clips in `raw` as a converted dataset."""
    out.mkdir()
    kind = DATASETS.get("folder")
    known = [FLAWED] if (next(raw.glob("JPEGImages/*/"), raw) / FLAWED).is_dir() else []
    settings = kind.validate(
        {"source": "clips", "exclude": known} | ({"size": side} if side else {}), "clips"
    )
    kind.build(Conversion("clips", raw, out), settings)
    return out


def measure(source: VideoClips, schedule: Schedule, seconds: float) -> tuple[float, float, float]:
    """Return CPU seconds per sample for making samples.

    And for decoding their frames and masks alone, by Pillow and by this project.
    """
    byte_batch(source, schedule, 0, 0, False, ALONE)
    if source.in_memory:
        for unit in range(len(source)):  # a training reads everything once
            source.clip(
                unit,
                length=schedule.clip_length,
                how=Drawing(jump=1),
                clean=False,
                generator=numpy_generator(unit),
            )
    made: dict[int, float] = {}
    read: dict[int, float] = {}
    own: dict[int, float] = {}
    start = time.process_time()
    iteration, rounds = 0, 0
    while rounds < 2 or time.process_time() - start < seconds:
        # the three take turns, and the least time of each batch counts
        iteration = iteration % BATCHES + 1
        rounds += iteration == BATCHES
        began = time.process_time()
        keys = byte_batch(source, schedule, 0, iteration, False, ALONE).keys
        made[iteration] = min(made.get(iteration, np.inf), time.process_time() - began)
        began = time.process_time()
        for _, sequence, *frames in keys:
            for frame in frames:
                np.array(Image.open(source.dataset.frame_path(sequence, frame)).convert("RGB"))
                np.array(Image.open(source.masks_path / sequence / f"{frame}.png"))
        read[iteration] = min(read.get(iteration, np.inf), time.process_time() - began)
        began = time.process_time()
        for _, sequence, *frames in keys:
            for frame in frames:
                read_frame(source.dataset.frame_path(sequence, frame))
                decode_mask((source.masks_path / sequence / f"{frame}.png").read_bytes())
        own[iteration] = min(own.get(iteration, np.inf), time.process_time() - began)
    samples = schedule.batch * BATCHES
    making, decoding, ours = (sum(times.values()) / samples for times in (made, read, own))
    return making, decoding, ours


def main() -> None:
    """Measure every case and print a table."""
    parser = argparse.ArgumentParser(description="Samples of video per second and core.")
    parser.add_argument("clips", type=Path, help="JPEGImages and Annotations as DAVIS has them")
    parser.add_argument(
        "--workers",
        type=int,
        nargs="+",
        default=[4, 8, 16],
        help="numbers of reading processes to compute the step for",
    )
    parser.add_argument("--seconds", type=float, default=12, help="CPU seconds a case")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    schedules = read_family(PARAMS, "train")
    head = (
        f"{'recipe':22s} {'frames':>11s} {'samples/s':>10s} {'decoding':>9s} {'cost':>6s} "
        f"{'own':>6s} {'batch':>6s}"
    )
    print(f"{head}  shortest step kept busy by {', '.join(map(str, options.workers))} workers")
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, case) in enumerate(CASES.items()):
            schedule = Schedule(**schedules[case.schedule] | case.changes)
            source = VideoClips(
                converted(options.clips, Path(folder) / str(number), case.side),
                None,
                schedule.clip_length,
                case.cache_bytes,
            )
            making, decoding, own = measure(source, schedule, options.seconds)
            kept = ", ".join(
                f"{1000 * schedule.batch * making / count:.3g} ms" for count in options.workers
            )
            size = f"{schedule.clip_length} x {schedule.window[0]}^2"
            cost = f"{making / decoding:.2f}"
            print(
                f"{name:22s} {size:>11s} {1 / making:10.1f} {1 / decoding:9.1f} {cost:>6s} "
                f"{making / own:6.2f} {schedule.batch:6d}  {kept}",
                flush=True,
            )
            costs.append(f"{name} {cost}")
    print(f"summary: cost of a sample in times decoding its frames: {'; '.join(costs)}")


if __name__ == "__main__":
    main()
