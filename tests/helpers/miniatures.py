"""Small faithful copies of how published datasets lie on disk.

A training step on what is made of them, and killed conversions.
"""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml
from PIL import Image

from noisyvos.io.images import encode_frame
from noisyvos.io.masks import encode_mask

HEIGHT, WIDTH = 48, 72


def frame(seed: int, height: int = HEIGHT, width: int = WIDTH) -> bytes:
    """Return a JPEG of smooth noise."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), np.uint8)
    return encode_frame(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))


def mask(*objects: int, step: int = 0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Return an index mask with a box for every object, which moves with `step`."""
    result = np.zeros((height, width), np.uint8)
    for place, number in enumerate(objects):
        result[8 + step : 24 + step, 4 + 22 * place : 20 + 22 * place] = number
    return result


def put(path: Path, data: bytes | np.ndarray | str | dict) -> None:
    """Write bytes, a mask (palette PNG), text or JSON, making folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, np.ndarray):
        data = encode_mask(data)
    elif isinstance(data, dict):
        data = json.dumps(data).encode()
    elif isinstance(data, str):
        data = data.encode()
    path.write_bytes(data)


def youtube_vos(root: Path) -> Path:
    """train: 2 videos at 6 frames a second, one name missing, a late object.

    Valid with first masks only; valid at 30 frames a second.
    """
    names = [
        "00000",
        "00005",
        "00010",
        "00020",
        "00025",
    ]  # 00015 is missing, as it happens in the published set
    meta: dict = {"videos": {}}
    for seed, video in enumerate(("0a1b", "ff02")):
        for step, name in enumerate(names):
            put(root / "train/JPEGImages" / video / f"{name}.jpg", frame(10 * seed + step))
            put(
                root / "train/Annotations" / video / f"{name}.png",
                mask(1, *([3] if step >= 2 else []), step=step),
            )
        objects = {
            "1": {"category": "dog", "frames": names},
            "3": {"category": "cat" if seed else "dog", "frames": names[2:]},
        }
        meta["videos"][video] = {"objects": objects}
    put(root / "train/meta.json", meta)
    put(
        root / "valid/meta.json",
        {"videos": {"77aa": {"objects": {"1": {"frames": names[:4]}, "2": {"frames": names[2:]}}}}},
    )
    for step, name in enumerate(names):
        put(root / "valid/JPEGImages/77aa" / f"{name}.jpg", frame(50 + step))
    put(root / "valid/Annotations/77aa/00000.png", mask(1))
    put(
        root / "valid/Annotations/77aa/00010.png", mask(0, 2, step=2)
    )  # says nothing about object 1
    for number in range(26):
        put(
            root / "all_frames/valid_all_frames/JPEGImages/77aa" / f"{number:05d}.jpg",
            frame(50 + number // 5),
        )
    put(root / "train/JPEGImages/.DS_Store", b"stray")
    return root


def long_videos(root: Path) -> Path:
    """One video of 7 frames with 3 masks of one object, and a folder that val.txt does not list."""
    for number in range(7):
        put(root / "JPEGImages/rat" / f"{number:05d}.jpg", frame(number))
    for number in (0, 3, 6):
        put(root / "Annotations/rat" / f"{number:05d}.png", mask(1, step=number))
    put(root / "JPEGImages/other/00000.jpg", frame(1))
    put(root / "val.txt", "rat\n")
    return root


def tao_vos(root: Path) -> Path:
    """train_480p with <source>/<video> folders and masks of every third frame.

    Valid with first masks, meta.json and its list.
    """
    for source, video in (("YFCC100M", "v_1"), ("BDD", "b1c9")):
        for number in range(9):
            put(
                root / "train_480p/JPEGImages" / source / video / f"frame{number:04d}.jpg",
                frame(number),
            )
            if number % 3 == 0:
                put(
                    root / "train_480p/Annotations" / source / video / f"frame{number:04d}.png",
                    mask(1, 2, step=number),
                )
                put(
                    root / "train_480p/Annotations" / source / video / f"._frame{number:04d}.png",
                    b"resource fork",
                )
    for video in ("LaSOT/car-1", "LaSOT/left-out"):
        for number in range(4):
            put(root / "valid/JPEGImages" / video / f"{number:08d}.jpg", frame(number))
        put(root / "valid/Annotations" / video / "00000000.png", mask(1))
        put(root / "valid/Annotations" / video / "00000002.png", mask(1, 2, step=2))
        put(root / "valid/Annotations_first" / video / "00000000.png", mask(1))
        put(root / "valid/Annotations_first" / video / "00000002.png", mask(0, 2, step=2))
    wanted = {"1": {"frames": ["00000000", "00000002"]}, "2": {"frames": ["00000002"]}}
    put(
        root / "valid/meta.json",
        {"videos": {name: {"objects": wanted} for name in ("LaSOT/car-1", "LaSOT/left-out")}},
    )
    put(root / "valid/ImageSets/valid_except.txt", "LaSOT/car-1\n")
    return root


def visor(root: Path) -> Path:
    """Polygons of one train sequence of three sparse Full HD frames, one of two frames (too few).

    And one val sequence.
    """
    grey = cv2.imencode(".jpg", np.full((1080, 1920, 3), 90, np.uint8))[1].tobytes()
    for subset, sequences in {
        "train": {"P01_01_seq_00001": 3, "P01_01_seq_00002": 2},
        "val": {"P02_01_seq_00001": 2},
    }.items():
        entries = []
        for sequence, count in sequences.items():
            video = sequence[:6]
            for number in range(count):
                name = f"{sequence[:6]}_frame_{int(sequence[-1]) * 100000 + 37 * number:010d}.jpg"
                put(root / "frames" / video / name, grey)
                box = [[200 + 90 * number, 300], [900, 300], [900, 800], [200, 800]]
                hand = [[1000, 200], [1500, 200], [1400, 700]]
                image = {
                    "image_path": f"{sequence}/{name}",
                    "name": name,
                    "subsequence": sequence,
                    "video": video,
                }
                shapes = [{"id": "1", "name": "pan", "segments": [box]}]
                shapes += [{"id": "2", "name": "left hand", "segments": [hand]}] if number else []
                entries.append({"image": image, "annotations": shapes})
        put(root / "annotations" / subset / f"{subset}.json", {"video_annotations": entries})
    return root


def still_mask(path: Path, seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    """Write an anti-aliased grey mask with a hole, as saliency sets hold them.

    Return its object (grey level from 128).
    """
    grey = np.zeros((height, width), np.float32)
    cv2.ellipse(grey, (40 + seed, 30), (24, 18), 20, 0, 360, 255, -1)
    cv2.circle(grey, (40 + seed, 30), 6, 0, -1)
    levels = cv2.GaussianBlur(grey, (0, 0), 1.5).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).save(path)
    return levels >= 128


def static(root: Path) -> Path:
    """The six folders that XMem pretrains on.

    Class folders in fss, images and masks side by side in the others.
    """
    names = [
        "fss/ab_wheel/1",
        "fss/ab_wheel/2",
        "fss/cat/1",
        "DUTS-TR/x_1",
        "DUTS-TE/y",
        "ecssd/0001",
        "BIG_small/2007_im",
        "HRSOD_small/7",
    ]
    for seed, name in enumerate(names):
        put(root / f"{name}.jpg", frame(seed, 60, 80))
        still_mask(root / f"{name}.png", seed)
    return root


def convert(base: Path, name: str, raw: Path, entry: dict, workers: int = 1) -> Path:
    """Convert `raw` as dataset `name` below `base` and return its folder."""
    from noisyvos.stages import convert as stage

    put(base / "params/datasets.yaml", yaml.safe_dump({name: {"source": "own"} | entry}))
    stage.run(name, raw=raw, out=base / "converted" / name, params=base / "params", workers=workers)
    return base / "converted" / name


def train_step(base: Path, data: Path, *, clips: bool = False, crop: int = 40) -> float:
    """Make one training step on a converted video dataset with its own masks, or on clips.

    Return its loss.
    """
    from noisyvos.stages import noise, pretrain, train
    from noisyvos.training.task import TrainingTask

    model = {"kind": "xmem_tiny", "width": 8, "key_dim": 8, "value_dim": 16, "hidden_dim": 8}
    schedule = {
        "iterations": 1,
        "batch": 1,
        "learning_rate": 1e-3,
        "clip_length": 2,
        "augmentation": "video_stm",
        "crop": crop,
    }
    schedule = schedule | ({"augmentation": "none", "crop": None} if clips else {})
    families = {
        "models": {"small": model},
        "methods": {"plain": {"kind": "ce_plain"}},
        "train": {"once": schedule},
    }
    for family, entry in (families | {"noise": {"clean": {"kind": "clean"}}}).items():
        put(base / "params" / f"{family}.yaml", yaml.safe_dump(entry))
    out = base / "step"
    outputs = {
        "weights": out / "w.safetensors",
        "summary": out / "s.json",
        "curve": out / "c.csv",
        "scratch": base / "scratch",
    }
    names = {
        "model": "small",
        "method": "plain",
        "schedule": "once",
        "seed": 0,
        "preset": "toy",
        "cell": "one",
    }
    stage = "pretrain" if clips else "train"
    task = TrainingTask(
        stage=stage, **names, **outputs, params=base / "params", device="cpu", track=False
    )
    if clips:
        pretrain.run(task, clips=data)
    else:
        noise.run(
            data,
            noise="clean",
            out=base / "labels.zip",
            manifest=base / "labels.json",
            params=base / "params",
        )
        train.run(task, dataset=data, masks=base / "labels.zip", manifest=base / "labels.json")
    return json.loads((out / "s.json").read_text())["final"]["loss"]


def sums(folder: Path) -> dict[str, str]:
    """Return the sha256 of all files below `folder`, hidden ones included.

    And the targets of links.
    """
    result = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            result[path.relative_to(folder).as_posix()] = os.readlink(path)
        elif path.is_file():
            result[path.relative_to(folder).as_posix()] = hashlib.sha256(
                path.read_bytes()
            ).hexdigest()
    return result


CHILD = """
import sys
from pathlib import Path
from noisyvos.stages import convert
base = Path(sys.argv[1])
import cv2, PIL.JpegImagePlugin, PIL.PngImagePlugin
import noisyvos.datasets.kinds.folder, noisyvos.datasets.kinds.youtube_vos
print("ready", flush=True)
out = base / "converted" / "own"
convert.run("own", raw=base / "raw", out=out, params=base / "params", workers=2)
"""


@dataclass
class Tally:
    """What happened in all kills."""

    kills: int = 0
    late: int = 0  # the conversion had ended before its kill
    partial: int = 0  # kills after which the final name held anything but the whole result
    leftovers: int = 0  # kills that left a temporary folder behind
    differing: int = 0  # conversions after a kill that ended in other bytes or left anything else


def kill_conversions(base: Path, *, kills: int, seed: int = 0, videos: int = 24) -> Tally:
    """Kill (SIGKILL) conversions at random moments.

    After each kill look at what is there, then convert undisturbed and compare.
    """
    rng, tally = random.Random(seed), Tally()
    names = [f"{number:05d}" for number in range(0, 30, 5)]
    for video in range(videos):
        for step, name in enumerate(names):
            put(
                base / "raw/train/JPEGImages" / f"v{video:03d}" / f"{name}.jpg",
                frame(video + step, 240, 320),
            )
            put(
                base / "raw/train/Annotations" / f"v{video:03d}" / f"{name}.png",
                mask(1, 2, step=step, height=240, width=320),
            )
    objects = {number: {"category": "cat", "frames": names} for number in "12"}
    put(
        base / "raw/train/meta.json",
        {"videos": {f"v{video:03d}": {"objects": objects} for video in range(videos)}},
    )
    put(
        base / "params/datasets.yaml",
        yaml.safe_dump({"own": {"kind": "youtube_vos", "source": "own", "size": 120}}),
    )
    final = base / "converted"
    duration = _run(base, None)
    wanted = sums(final)
    for turn in range(4 * kills):
        if tally.kills == kills:
            break
        if turn % 2 == 0:  # with and without an earlier result under the final name
            shutil.rmtree(final)
        killed = _run(base, rng.uniform(0, duration)) is None
        tally.kills += killed
        tally.late += not killed
        found = sums(final) if final.is_dir() else {}
        complete = {name: value for name, value in found.items() if name.startswith("own/")}
        tally.partial += complete not in ({}, wanted)
        tally.leftovers += any(name.startswith(".own.") for name in found)
        duration = _run(base, None) or duration
        tally.differing += sums(final) != wanted
    return tally


def _run(base: Path, kill_after: float | None) -> float | None:
    """Run a conversion and return how long it took from the moment it was ready.

    None if it was killed after `kill_after` seconds.
    """
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(base)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    start = time.monotonic()
    try:
        child.wait(kill_after)
    except subprocess.TimeoutExpired:
        child.kill()
    child.stdout.read()  # ends when the worker processes, which share the pipe, have ended too
    child.stdout.close()
    code = child.wait()
    assert code in (0, -9), f"the conversion failed with {code}"
    return time.monotonic() - start if code == 0 else None
