"""Miniatures of published datasets.

Archives with the folders, names and kinds of files of the real ones, drawn by a random stream.

`ARCHIVES[source]()` returns the members of each archive of a source: {archive: {member: bytes}}.
"""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable

import numpy as np

from noisyvos.io.images import encode_frame
from noisyvos.io.masks import encode_mask

Members = dict[str, bytes]
SIZE = (48, 64)
FRAMES = 4


def frame(number: int) -> bytes:
    """Return a JPEG picture; equal numbers give equal pictures."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (SIZE[0] // 8, SIZE[1] // 8, 3), np.uint8)
    return encode_frame(coarse.repeat(8, axis=0).repeat(8, axis=1))


def index_mask(number: int, objects: int = 2, void: bool = False) -> np.ndarray:
    """Return an index mask of rectangles that move with `number`."""
    mask = np.zeros(SIZE, np.uint8)
    for label in range(1, objects + 1):
        left = 4 + 20 * (label - 1) + number % 8
        mask[8 : 8 + 12 * label, left : left + 16] = label
    if void:
        mask[0, :5] = 255
    return mask


def grey(mask: np.ndarray) -> bytes:
    """Return a mask of 0 and 255 as a grey PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray((mask > 0).astype(np.uint8) * 255).save(buffer, "PNG")
    return buffer.getvalue()


def _davis(resolution: str, splits: dict[str, list[str]], first_only: bool = False) -> Members:
    files: Members = {"DAVIS/README.md": b"a miniature\n"}
    for number, name in enumerate(sequence for split in splits.values() for sequence in split):
        for index in range(FRAMES):
            files[f"DAVIS/JPEGImages/{resolution}/{name}/{index:05d}.jpg"] = frame(
                100 * number + index
            )
            if index == 0 or not first_only:
                mask = encode_mask(index_mask(index, void=index == 1))
                files[f"DAVIS/Annotations/{resolution}/{name}/{index:05d}.png"] = mask
    for split, names in splits.items():
        for year in ("2016", "2017"):
            files[f"DAVIS/ImageSets/{year}/{split}.txt"] = "\n".join(names).encode() + b"\n"
    return files


def _davis16() -> Members:
    files: Members = {}
    for resolution in ("480p", "1080p"):
        for split, name in (("train", "bear"), ("val", "cows")):
            lines = []
            for index in range(FRAMES):
                image, mask = (
                    f"{folder}/{resolution}/{name}/{index:05d}"
                    for folder in ("JPEGImages", "Annotations")
                )
                files[f"DAVIS/{image}.jpg"], files[f"DAVIS/{mask}.png"] = (
                    frame(index),
                    grey(index_mask(index)),
                )
                lines.append(f"/{image}.jpg /{mask}.png")
            files[f"DAVIS/ImageSets/{resolution}/{split}.txt"] = "\n".join(lines).encode()
    return files


def _instances(part: str, numbers: range) -> bytes:
    images = [
        {
            "id": number + 1,
            "file_name": f"{number:012d}.jpg",
            "height": SIZE[0],
            "width": SIZE[1],
            "coco_url": f"http://images.cocodataset.org/{part}2017/{number:012d}.jpg",
        }
        for number in numbers
    ]
    square, counts = [4.0, 4.0, 40.0, 4.0, 40.0, 40.0, 4.0, 40.0], [5, 43, SIZE[0] * SIZE[1] - 48]
    shapes = [(square, 1296.0, 0), ({"size": list(SIZE), "counts": counts}, 43.0, 1)]
    annotations = [
        {
            "id": 2 * image["id"] + crowd,
            "image_id": image["id"],
            "category_id": 90,
            "segmentation": shape if crowd else [shape],
            "area": area,
            "bbox": [4, 4, 36, 36],
            "iscrowd": crowd,
        }
        for image in images
        for shape, area, crowd in shapes
    ]
    categories = [{"id": 90, "name": "toothbrush", "supercategory": "indoor"}]
    return json.dumps(
        {
            "info": {},
            "licenses": [],
            "images": images,
            "annotations": annotations,
            "categories": categories,
        }
    ).encode()


def _coco() -> dict[str, Members]:
    parts = {"train": range(3), "val": range(100, 102)}
    pictures = {
        part: {f"{part}2017/{i:012d}.jpg": frame(i) for i in numbers}
        for part, numbers in parts.items()
    }
    notes = {
        f"annotations/instances_{part}2017.json": _instances(part, numbers)
        for part, numbers in parts.items()
    }
    return {
        "train2017.zip": pictures["train"],
        "val2017.zip": pictures["val"],
        "annotations_trainval2017.zip": notes | {"annotations/captions_val2017.json": b"{}"},
    }


def _pairs(
    images: str, masks: str, draw: Callable[[int], bytes], count: int = 3, first: int = 1
) -> Members:
    files: Members = {}
    for number in range(first, first + count):
        files[f"{images}/{number:04d}.jpg"], files[f"{masks}/{number:04d}.png"] = (
            frame(number),
            draw(number),
        )
    return files


def _saliency(number: int) -> bytes:
    return grey(index_mask(number, objects=1))


def _ecssd() -> dict[str, Members]:
    files = _pairs("images", "ground_truth_mask", _saliency)
    images = {name: data for name, data in files.items() if name.startswith("images/")}
    return {
        "images.zip": images | {"__MACOSX/images/._0001.jpg": b"x", "images/.DS_Store": b"x"},
        "ground_truth_mask.zip": {name: data for name, data in files.items() if name not in images},
    }


def _voc() -> Members:
    base = "VOCdevkit/VOC2012"
    files = _pairs(
        f"{base}/JPEGImages",
        f"{base}/SegmentationObject",
        lambda number: encode_mask(index_mask(number, void=True)),
    )
    files[f"{base}/JPEGImages/0009.jpg"] = frame(9)  # an image without masks
    files[f"{base}/ImageSets/Segmentation/trainval.txt"] = b"0001\n0002\n0003\n"
    return files


def _duts() -> dict[str, Members]:
    return {
        f"DUTS-{part}.zip": _pairs(
            f"DUTS-{part}/DUTS-{part}-Image", f"DUTS-{part}/DUTS-{part}-Mask", _saliency
        )
        for part in ("TR", "TE")
    }


def _visor() -> Members:
    base = "2v6cgv1x04ol22qp9rm9x2j6a7"
    files: Members = {
        f"{base}/frame_mapping.json": b"{}",
        f"{base}/Interpolations-DenseAnnotations/train/P01_01_interpolations.zip": b"x",
    }
    for part, video, count in (("train", "P01_01", 3), ("val", "P02_03", 2)):
        names = [f"{video}_frame_{index:010d}.jpg" for index in range(140, 140 + 7 * count, 7)]
        square = [[100.0, 100.0], [900.0, 100.0], [900.0, 900.0], [100.0, 900.0]]
        entries = [
            {
                "image": {
                    "image_path": f"{video}/{name}",
                    "name": name,
                    "subsequence": f"{video}_seq_00001",
                    "video": video,
                },
                "annotations": [
                    {
                        "id": "x",
                        "name": "knife",
                        "class_id": 4,
                        "exhaustive": "y",
                        "segments": [square],
                    }
                ],
            }
            for name in names
        ]
        sparse = f"{base}/GroundTruth-SparseAnnotations"
        files[f"{sparse}/annotations/{part}/{video}.json"] = json.dumps(
            {"info": {}, "video_annotations": entries}
        ).encode()
        files[f"{sparse}/rgb_frames/{part}/{video[:3]}/{video}.zip"] = zipped(
            {name: frame(i) for i, name in enumerate(names)}
        )
    return files


def zipped(members: Members) -> bytes:
    """Return a zip of `members`, equal for equal members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, data in members.items():
            archive.writestr(zipfile.ZipInfo(member), data)
    return buffer.getvalue()


def packed(name: str, members: Members) -> bytes:
    """Return an archive of `members`, a zip or a tar after its name."""
    if name.endswith(".zip"):
        return zipped(members)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as bundle:
        for member, data in members.items():
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            bundle.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


TRAINVAL = {"train": ["bear", "boat"], "val": ["cows"]}
ARCHIVES: dict[str, Callable[[], dict[str, Members]]] = {
    "coco": _coco,
    "davis16": lambda: {"DAVIS-data.zip": _davis16()},
    "davis17": lambda: {"DAVIS-2017-trainval-480p.zip": _davis("480p", TRAINVAL)},
    "davis17_full": lambda: {
        "DAVIS-2017-trainval-Full-Resolution.zip": _davis("Full-Resolution", TRAINVAL)
    },
    "davis17_test_dev": lambda: {
        "DAVIS-2017-test-dev-480p.zip": _davis(
            "480p", {"test-dev": ["aerobatics", "car-race"]}, first_only=True
        )
    },
    "visor_raw": lambda: {"2v6cgv1x04ol22qp9rm9x2j6a7.zip": _visor()},
    "msra10k": lambda: {
        "MSRA10K_Imgs_GT.zip": _pairs("MSRA10K_Imgs_GT/Imgs", "MSRA10K_Imgs_GT/Imgs", _saliency)
    },
    "ecssd": _ecssd,
    "pascal_s": lambda: {
        "salObj.zip": _pairs("datasets/imgs/pascal", "datasets/masks/pascal", _saliency)
    },
    "voc2012": lambda: {"VOCtrainval_11-May-2012.tar": _voc()},
    "duts": _duts,
}
