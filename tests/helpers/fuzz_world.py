"""A small world in which every command works: its inputs, and the commands over them.

`make_world` writes the inputs into a folder, most of them with the commands themselves. `COMMANDS`
are command lines that succeed in it. Outputs go below `out/`, which the world does not hold.
"""

import io
import json
import shutil
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from PIL import Image

from noisyvos import models
from noisyvos.io.images import encode_frame
from noisyvos.io.masks import encode_mask

SIZE = (32, 48)
PARAMS = {
    "sources": {
        "made": {
            "kind": "shapes",
            "seed": 1,
            "train_sequences": 1,
            "val_sequences": 1,
            "frames": 3,
            "images": 2,
            "height": 48,
            "width": 64,
        },
        "own": {"kind": "by_hand", "about": "made up", "wants": [{"path": "*/JPEGImages"}]},
        "packed": {
            "kind": "archives",
            "about": "made up",
            "wants": [{"path": "data/*"}],
            "files": [
                {"url": "file:archives/one.zip", "size": None},
                {"url": "file:archives/two.tar.gz", "into": "more"},
            ],
        },
    },
    "datasets": {
        "videos": {"kind": "folder", "source": "own", "root": "davis", "split": "train"},
        "youtube": {"kind": "youtube_vos", "source": "own", "root": "youtube", "size": 32},
        "pictures": {
            "kind": "coco",
            "source": "own",
            "images": "coco/images",
            "annotations": "coco/instances.json",
        },
        "kitchen": {
            "kind": "visor",
            "source": "own",
            "annotations": "visor/annotations",
            "images": "visor/images",
            "split": "train",
        },
        "both": {"kind": "mix", "parts": [{"dataset": "videos"}, {"dataset": "youtube"}]},
    },
    "synth": {"clips": {"kind": "coco_clips", "clips": 2, "crop": 32}},
    "noise": {
        "clean": {},
        "dilate": {"kind": "dilate", "q": 0.7},
        "drop": {"rate": 0.5},
    },
    "models": {"xmem_tiny": {}, "stm_tiny": {}},
    "methods": {"xmem": {}},
    "corruptions": {"salt_and_pepper": {"points": 20}},
    "starts": {"random": {}},
    "train": {
        "short": {
            "iterations": 2,
            "batch": 1,
            "learning_rate": 0.001,
            "clip_length": 2,
            "crop": 32,
            "diagnostics": 1,
        }
    },
    "eval": {"default": {}, "large": {"size": 40, "flip": True}},
}
PRESET = {
    "title": "Fuzz",
    "synthetic": True,
    "train": {"dataset": "videos", "schedule": "short"},
    "evaluate": {"videos": {}},
    "blocks": {
        "core": {"model": ["xmem_tiny"], "noise": ["dilate"], "method": ["xmem"], "seed": [0]}
    },
}
CELL = "videos-dilate-xmem-xmem_tiny-s0"


@dataclass(frozen=True)
class Command:
    """A command line that succeeds in the world, and the files of it that the command reads.

    reads: files and folders (all files below count), relative to the world. allowed: what the
    command may change besides what it makes below `out/`.
    """

    line: str
    reads: tuple[str, ...]
    allowed: tuple[str, ...] = ()
    slow: bool = False

    @property
    def words(self) -> list[str]:
        """The arguments."""
        return self.line.split()

    @property
    def name(self) -> str:
        """The command, with the kind of `convert`."""
        words = self.words
        return " ".join(words[:2]) if words[0] == "convert" else words[0]


TRAINING = (
    f"--method xmem --model xmem_tiny --schedule short --weights out/w.safetensors "
    f"--summary out/s.json --curve out/c.csv --cell {CELL} --preset fuzz --no-track "
    "--device cpu --scratch out/scratch"
)
RESULTS = "--results results/fuzz --predictions runs/fuzz/predictions --cells params/cells.yaml"
EVALUATED = ("params/cells.yaml", "results/fuzz", "runs/fuzz/predictions", "converted/videos")
COMMANDS = (
    Command(
        "generate --source made --out out/raw --inventory out/i.json", ("params/sources.yaml",)
    ),
    Command("download --source own --raw raw --out out/i.json", ("params/sources.yaml", "raw")),
    Command(
        "download --source packed --raw out/packed --archives out/archives --out out/i.json "
        "--accept-licence",
        ("params/sources.yaml", "archives"),
    ),
    # without --raw it makes data/raw
    Command("point --source own --to raw --raw out/raws", ("params/sources.yaml",), ("data",)),
    *(
        Command(
            f"convert dataset --name {name} --raw raw --out out/{name}",
            ("params/datasets.yaml", f"raw/{folder}"),
        )
        for name, folder in (
            ("videos", "davis"),
            ("youtube", "youtube"),
            ("pictures", "coco"),
            ("kitchen", "visor"),
        )
    ),
    Command(
        "convert dataset --name both --raw converted --out out/both",
        ("params/datasets.yaml", "converted/videos", "converted/youtube"),
    ),
    Command(
        "convert visor --annotations raw/visor/annotations --images raw/visor/images --set train "
        "--out out/v --size 64x36",
        ("raw/visor",),
    ),
    Command(
        "convert scribbles --dataset converted/videos --scribbles scribbles --out out/s.zip "
        "--manifest out/s.json",
        ("converted/videos", "scribbles"),
    ),
    Command("convert unify --name ECSSD --src raw/ecssd --dst out/u", ("raw/ecssd",)),
    Command("convert unify --name COCO --src raw/cocos --dst out/u", ("raw/cocos",)),
    Command("check --dataset converted/videos", ("converted/videos",)),
    Command("check --dataset converted/pictures", ("converted/pictures",)),
    Command("check --dataset raw/davis --expect params/sources.yaml", ("raw/davis",)),
    Command("describe --dataset converted/videos --out out/d.png", ("converted/videos",)),
    Command("describe --dataset clips --out out/d.png", ("clips",)),
    Command(
        "synth --images converted/pictures --recipe clips --out out/clips",
        ("converted/pictures", "params/synth.yaml"),
    ),
    Command(
        "noise --dataset converted/videos --noise dilate --out out/n.zip --manifest out/n.json",
        ("converted/videos", "params/noise.yaml"),
    ),
    Command(
        "noise-preview --dataset converted/videos --out out/n.png",
        ("converted/videos", "params/noise.yaml"),
    ),
    Command(
        "start --name random --model xmem_tiny --out out/w.safetensors",
        ("params/starts.yaml", "params/models.yaml"),
    ),
    Command(
        f"pretrain --clips clips {TRAINING}",
        ("clips", "params/train.yaml", "params/methods.yaml", "params/models.yaml"),
        slow=True,
    ),
    Command(
        "train --dataset converted/videos --masks noisy.zip --noise-manifest noisy.json "
        f"--init weights.safetensors {TRAINING}",
        ("converted/videos", "noisy.zip", "noisy.json", "weights.safetensors", "params/train.yaml"),
        slow=True,
    ),
    Command(
        "infer --dataset converted/videos --model xmem_tiny --weights weights.safetensors "
        "--out out/p.zip --prompts noisy.zip --save-probabilities out/probabilities --device cpu",
        ("converted/videos", "weights.safetensors", "noisy.zip", "params/eval.yaml"),
        slow=True,
    ),
    Command(
        "infer --dataset converted/videos --model xmem_tiny --weights weights.pth --device cpu "
        "--out out/p.zip --corruption salt_and_pepper",
        ("weights.pth", "params/models.yaml", "params/corruptions.yaml"),
        slow=True,
    ),
    Command(
        "infer --dataset converted/videos --baseline first_mask --out out/p.zip",
        ("converted/videos",),
    ),
    Command(
        "segment --video movie.mp4 --mask mask.png --model xmem_tiny --weights weights.safetensors "
        "--out out/own --device cpu",
        ("movie.mp4", "mask.png", "weights.safetensors"),
        slow=True,
    ),
    Command(
        "segment --video raw/davis/JPEGImages/480p/one --mask raw/davis/Annotations/480p/one "
        "--model xmem_tiny --weights none --out out/own --overlays --movie out/m.mp4 --device cpu",
        ("raw/davis/JPEGImages/480p/one", "raw/davis/Annotations/480p/one"),
        slow=True,
    ),
    Command("merge probabilities saved --out out/m.zip", ("probabilities", "saved")),
    Command(
        "score --results predictions.zip --truth converted/videos/masks --out out/scores "
        "--split split.txt",
        ("predictions.zip", "converted/videos/masks", "split.txt"),
    ),
    Command(
        "submit --predictions predictions.zip --dataset converted/videos --rules davis "
        "--out out/s.zip",
        ("predictions.zip", "converted/videos"),
    ),
    Command(
        "check-submission --zip predictions.zip --dataset converted/videos --rules davis "
        "--out out/s.zip",
        ("predictions.zip", "converted/videos"),
    ),
    Command(
        f"spread results/fuzz/scores/{CELL}-videos other --out out/s.csv",
        (f"results/fuzz/scores/{CELL}-videos", "other"),
    ),
    Command(f"tables {RESULTS} --converted converted --out out/tables", EVALUATED, slow=True),
    Command(
        f"figures {RESULTS} --converted converted --clips clips --out out/figures",
        EVALUATED,
        slow=True,
    ),
    Command(
        f"report {RESULTS} --converted converted --figures figures --out out/report.html",
        EVALUATED,
        slow=True,
    ),
    Command(
        "grid --preset fuzz --params params",
        ("params/presets/fuzz.yaml", "params/train.yaml"),
        allowed=("params/cells.yaml", "dvc.yaml", "data/code.json"),
    ),
    Command("plan fuzz --speeds speed.csv", ("params", "speed.csv")),
    Command("check-params", ("params",)),
    Command("code --out out/code.json", ("params",), allowed=("data",)),
    Command("schema --out out/schemas", (), allowed=("workflow",)),
    Command(
        "start-weights --model xmem_tiny --checkpoint weights.pth --out out/w.safetensors",
        ("weights.pth", "params/models.yaml"),
    ),
)


def _frame(number: int) -> bytes:
    coarse = np.random.default_rng(number).integers(0, 256, (4, 6, 3), np.uint8)
    return encode_frame(coarse.repeat(8, axis=0).repeat(8, axis=1))


def _mask(number: int, *objects: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    for place, label in enumerate(objects):
        mask[4 : 24 + place, 3 + number + 20 * place : 18 + number + 20 * place] = label
    return mask


def _put(path: Path, data: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def _raw(root: Path) -> None:
    """Write raw material of every kind."""
    for number in range(3):
        name = f"{number:05d}"
        for folder in ("davis/JPEGImages/480p/one", "youtube/train/JPEGImages/ab12"):
            _put(root / folder / f"{name}.jpg", _frame(number))
        for folder in ("davis/Annotations/480p/one", "youtube/train/Annotations/ab12"):
            _put(root / folder / f"{name}.png", encode_mask(_mask(number, 1, 2)))
        _put(root / f"visor/images/P01_01/P01_01_frame_{number}.jpg", _frame(number))
    _put(root / "davis/ImageSets/2017/train.txt", "one\n")
    objects = {
        str(number): {"category": "cat", "frames": ["00000", "00001", "00002"]} for number in (1, 2)
    }
    _put(root / "youtube/train/meta.json", json.dumps({"videos": {"ab12": {"objects": objects}}}))
    entries = [
        {
            "image": {
                "image_path": f"P01_01/P01_01_frame_{number}.jpg",
                "name": f"P01_01_frame_{number}.jpg",
                "subsequence": "P01_01_seq_00001",
                "video": "P01_01",
            },
            "annotations": [
                {"name": "hand", "segments": [[[100, 100], [900, 100], [900 + number, 800]]]},
                {"name": "pan", "segments": [[[1000, 200], [1500, 200], [1500, 900]]]},
            ],
        }
        for number in range(3)
    ]
    _put(
        root / "visor/annotations/train/P01_01.json",
        json.dumps({"video_annotations": entries}),
    )
    instances = {
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": SIZE[0], "width": SIZE[1]},
            {"id": 8, "file_name": "b.jpg", "height": SIZE[0], "width": SIZE[1]},
        ],
        "annotations": [
            {
                "id": 10 * image + place,
                "image_id": image,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [4, 2, 36, 26],
                "area": 900,
                "segmentation": [[4 + 2 * place, 2, 40, 2, 40, 28, 4, 28.5]],
            }
            for image in (7, 8)
            for place in (0, 1)
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    for place, folder in (("coco/instances.json", "coco/images"),):
        _put(root / place, json.dumps(instances))
        for number, name in enumerate("ab"):
            _put(root / folder / f"{name}.jpg", _frame(number))
    _put(root / "cocos/annotations/instances_train2017.json", json.dumps(instances))
    for number, name in enumerate("ab"):
        _put(root / f"cocos/train2017/{name}.jpg", _frame(number))
        _put(root / f"ecssd/images/{name}.jpg", _frame(number))
        _put(root / f"ecssd/ground_truth_mask/{name}.png", encode_mask(_mask(number, 255)))


def _archives(folder: Path) -> None:
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "one.zip", "w") as archive:
        archive.writestr("data/a.txt", "a" * 500)
        archive.writestr("data/b.jpg", _frame(1))
    with tarfile.open(folder / "two.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("data/c.txt")
        member.size = 300
        archive.addfile(member, io.BytesIO(b"c" * 300))


def _movie(path: Path) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (SIZE[1], SIZE[0]))
    for number in range(3):
        writer.write(cv2.imdecode(np.frombuffer(_frame(number), np.uint8), cv2.IMREAD_COLOR))
    writer.release()


def make_world(root: Path, run) -> None:
    """Write the world into the new folder `root`; `run(words, root)` runs a command there."""
    _raw(root / "raw")
    _archives(root / "archives")
    params = json.loads(
        json.dumps(PARAMS).replace("file:archives", f"file:{root.resolve()}/archives")
    )
    for family, entries in params.items():
        _put(root / "params" / f"{family}.yaml", yaml.safe_dump(entries, sort_keys=False))
    _put(root / "params/presets/fuzz.yaml", yaml.safe_dump(PRESET, sort_keys=False))
    _put(root / "speed.csv", "")
    _put(root / "split.txt", "one\n")
    _put(root / "mask.png", encode_mask(_mask(0, 1, 2)))
    _movie(root / "movie.mp4")
    for number in range(3):
        scribble = _mask(number, 1, 2)
        scribble[28:] = 3
        image = io.BytesIO()
        Image.fromarray(scribble).save(image, "BMP")
        _put(root / f"scribbles/one/{number:05d}.bmp", image.getvalue())
    network = models.build("xmem_tiny", seed=0)
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, root / "weights.pth")
    models.save_weights(network, root / "weights.safetensors")
    score = f"results/fuzz/scores/{CELL}-videos"
    for line in (
        "grid --preset fuzz",
        "convert dataset --name videos --raw raw --out converted/videos",
        "convert dataset --name youtube --raw raw --out converted/youtube",
        "convert dataset --name pictures --raw raw --out converted/pictures",
        "synth --images converted/pictures --recipe clips --out clips",
        "noise --dataset converted/videos --noise dilate --out noisy.zip --manifest noisy.json",
        "train --dataset converted/videos --masks noisy.zip --noise-manifest noisy.json "
        + TRAINING,
        "infer --dataset converted/videos --model xmem_tiny --weights weights.safetensors "
        "--out predictions.zip --save-probabilities probabilities --device cpu",
        "score --results predictions.zip --truth converted/videos/masks --out " + score,
        "infer --dataset converted/videos --baseline first_mask --out out/f.zip",
    ):
        run(line.split(), root)
    for place, name in (("s.json", "summary.json"), ("c.csv", "curve.csv")):
        target = root / f"results/fuzz/train/{CELL}/{name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "out" / place, target)
    (root / "runs/fuzz/predictions").mkdir(parents=True)
    shutil.copy(root / "predictions.zip", root / f"runs/fuzz/predictions/{CELL}-videos.zip")
    (root / "figures").mkdir()
    shutil.copytree(root / score, root / "other")
    shutil.copytree(root / "probabilities", root / "saved")
    shutil.rmtree(root / "out")
