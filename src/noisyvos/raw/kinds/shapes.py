"""The generated source: videos in DAVIS form and images in COCO form, of textured moving bodies."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from pydantic import Field, model_validator

from noisyvos.errors import UserError
from noisyvos.io.images import encode_frame
from noisyvos.io.masks import encode_mask
from noisyvos.parallel import ordered_map
from noisyvos.raw.base import SOURCES, GeneratedSource
from noisyvos.raw.render import Painter, draw_mask
from noisyvos.raw.textures import FAMILIES
from noisyvos.raw.world import IMAGE_HEIGHT, VIDEO_HEIGHT, Manner, Scene, draw_scene, still
from noisyvos.registry import Settings
from noisyvos.seeding import numpy_generator

FIRST_AREA = 75  # square units an object must show in frame 0
LEAST_AREA = 24  # square units it must show in every frame, unless it leaves
_FINE = 192  # rows; smaller pictures are rendered at a multiple of their size and averaged
_ATTEMPTS = 2000
LICENCE = {"id": 1, "name": "CC0 1.0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}


class ShapesSettings(Settings):
    """Settings of `shapes`; sizes are those of the files, in pixels.

    Images have the size at which clips are made of them. If they were reduced first, the outlines
    that the recipe truncates to whole pixels would grow by up to half a pixel.
    """

    seed: int = Field(ge=0, description="Seed of all videos and pictures.")
    train_sequences: int = Field(ge=1, le=1000, description="Number of training videos.")
    val_sequences: int = Field(
        ge=1,
        le=1000,
        description="Number of validation videos. They come from a separate random stream.",
    )
    frames: int = Field(ge=3, le=200, description="Frames in each video.")
    images: int = Field(ge=1, le=100_000, description="Number of still pictures.")
    height: int = Field(
        192, ge=VIDEO_HEIGHT, le=4096, description="Height of the videos in pixels."
    )
    width: int = Field(288, ge=VIDEO_HEIGHT, le=4096, description="Width of the videos in pixels.")
    image_height: int = Field(
        60, ge=IMAGE_HEIGHT, le=4096, description="Height of the still pictures in pixels."
    )
    image_width: int = Field(
        90, ge=IMAGE_HEIGHT, le=4096, description="Width of the still pictures in pixels."
    )

    @model_validator(mode="after")
    def _not_too_narrow(self) -> Self:
        if self.width < self.height or self.image_width < self.image_height:
            raise ValueError("pictures must be at least as wide as they are high")
        return self


@dataclass(frozen=True)
class Drawing:
    """One thing to make: a sequence of a split, or a still picture (split `images`)."""

    split: str
    index: int

    @property
    def name(self) -> str:
        """The name of the sequence, or of the image file without its ending (12 digits)."""
        return (
            f"{self.index + 1:012d}" if self.split == "images" else f"{self.split}_{self.index:03d}"
        )


@SOURCES.register("shapes", ShapesSettings)
class ShapesSource(GeneratedSource):
    """Textured bodies: 2 to 4 in an image, 2 or 3 in a video.

    In videos they deform, hide each other, leave and come back.
    """

    settings: ShapesSettings

    def generate(self, out: Path, workers: int = 1) -> str:
        """Write videos, split lists, images and their annotations below `out`."""
        counts = {
            "train": self.settings.train_sequences,
            "val": self.settings.val_sequences,
            "images": self.settings.images,
        }
        tasks = [Drawing(split, index) for split, count in counts.items() for index in range(count)]
        found = list(ordered_map(partial(_make, self.settings, out), tasks, workers, self.name))
        for split in ("train", "val"):
            names = [task.name for task in tasks if task.split == split]
            _write(out / "ImageSets" / "2017" / f"{split}.txt", ("\n".join(names) + "\n").encode())
        images = [_image_entry(self.settings, task) for task in tasks if task.split == "images"]
        document = _collection(
            images,
            [entry for task, entry in zip(tasks, found, strict=True) if task.split == "images"],
        )
        _write(
            out / "annotations" / "instances_train.json",
            json.dumps(document, sort_keys=True).encode(),
        )
        return (
            f"{counts['train']} train and {counts['val']} val sequences "
            f"of {self.settings.frames} frames, "
            f"{counts['images']} pictures with {len(document['annotations'])} annotated objects"
        )


def draw_valid_scene(settings: ShapesSettings, task: Drawing) -> Scene:
    """Return the first random scene of `task` in which every object shows enough, else UserError.

    Each object shows `FIRST_AREA` in frame 0 and `LEAST_AREA` in the others. An object that leaves
    shows nothing for a while and `LEAST_AREA` in the last frame.
    """
    if task.split == "images":
        manner, size = (
            still((2, 4)),
            (IMAGE_HEIGHT, IMAGE_HEIGHT * settings.image_width / settings.image_height),
        )
    else:
        manner, size = (
            Manner(settings.frames, (2, 3)),
            (VIDEO_HEIGHT, VIDEO_HEIGHT * settings.width / settings.height),
        )
    for attempt in range(_ATTEMPTS):
        scene = draw_scene(
            numpy_generator("shapes scene", settings.seed, task.split, task.index, attempt),
            manner,
            size,
        )
        if _shows_enough(scene, manner.frames, (round(size[0]), round(size[1]))):
            return scene
    raise UserError(
        f"No valid scene for {task.name} in {_ATTEMPTS} attempts: "
        "`frames` is too large for objects to stay visible. Lower it."
    )


def _shows_enough(scene: Scene, frames: int, shape: tuple[int, int]) -> bool:
    labels = [body.label for body in scene.bodies if body.label]
    leaving = np.array([body.leaves for body in scene.bodies if body.label])
    areas = np.empty((frames, len(labels)), int)
    for frame in range(frames):
        counts = np.bincount(draw_mask(scene, frame, shape).ravel(), minlength=256)
        areas[frame] = counts[labels]
        least = FIRST_AREA if frame == 0 else LEAST_AREA
        if (areas[frame] < least)[~leaving | (frame in (0, frames - 1))].any():
            return False
    return bool((areas[:, leaving].min(axis=0, initial=0) == 0).all())


def _make(settings: ShapesSettings, out: Path, task: Drawing) -> list[dict[str, Any]]:
    """Write the files of one task; return the annotations of an image, front to back."""
    scene = draw_valid_scene(settings, task)
    stream = numpy_generator("shapes surface", settings.seed, task.split, task.index)
    if task.split == "images":
        return _make_image(settings, out, task, scene, stream)
    shape = (settings.height, settings.width)
    painter = Painter(scene, _finer(shape), stream)
    for frame in range(settings.frames):
        picture = _picture(painter, settings, task, frame, shape)
        _write(out / "JPEGImages" / "480p" / task.name / f"{frame:05d}.jpg", encode_frame(picture))
        _write(
            out / "Annotations" / "480p" / task.name / f"{frame:05d}.png",
            encode_mask(draw_mask(scene, frame, shape)),
        )
    return []


def _make_image(
    settings: ShapesSettings, out: Path, task: Drawing, scene: Scene, stream: np.random.Generator
) -> list[dict[str, Any]]:
    shape = (settings.image_height, settings.image_width)
    picture = _picture(Painter(scene, _finer(shape), stream), settings, task, 0, shape)
    _write(out / "images" / "train" / f"{task.name}.jpg", encode_frame(picture))
    mask = draw_mask(scene, 0, shape)
    entries = (_instance(mask == body.label, body.family) for body in reversed(scene.bodies))
    return [entry for entry in entries if entry is not None]


def _finer(shape: tuple[int, int]) -> tuple[int, int]:
    factor = -(-_FINE // shape[0])
    return shape[0] * factor, shape[1] * factor


def _picture(
    painter: Painter, settings: ShapesSettings, task: Drawing, frame: int, shape: tuple[int, int]
) -> np.ndarray:
    """Return one frame of `shape` (height, width), (H, W, 3) uint8 RGB."""
    grain = numpy_generator("shapes grain", settings.seed, task.split, task.index, frame)
    return cv2.resize(painter.draw_frame(frame, grain), shape[::-1], interpolation=cv2.INTER_AREA)


def _image_entry(settings: ShapesSettings, task: Drawing) -> dict[str, Any]:
    return {
        "id": task.index + 1,
        "file_name": f"{task.name}.jpg",
        "height": settings.image_height,
        "width": settings.image_width,
    }


def _instance(mask: np.ndarray, family: str) -> dict[str, Any] | None:
    """Return polygons, box and area of a bool `mask` (H, W); None if no polygon is left.

    Vertices are in border pixels, close to their outer sides. Truncated to whole numbers and filled
    with the border, the polygons give back the mask; as exact outlines they enclose nearly its
    area. Holes are not kept.
    """
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    corners = _outwards(mask)
    polygons = [
        (points + corners[points[:, 1], points[:, 0]]).ravel().tolist()
        for points in (c[:, 0, :] for c in contours)
        if len(points) >= 3
    ]
    if not polygons:
        return None
    rows, columns = np.nonzero(mask)
    left, top = int(columns.min()), int(rows.min())
    box = [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1]
    category = sorted(FAMILIES).index(family) + 1
    return {
        "segmentation": sorted(polygons, key=len, reverse=True),
        "bbox": [float(value) for value in box],
        "area": float(len(rows)),
        "iscrowd": 0,
        "category_id": category,
    }


def _outwards(mask: np.ndarray) -> np.ndarray:
    """Return a place (x, y) in each pixel, in (0, 1): its middle, or near the mask's end."""
    around = np.pad(mask, 1).astype(np.float64)
    x = around[1:-1, :-2] - around[1:-1, 2:]
    y = around[:-2, 1:-1] - around[2:, 1:-1]
    return np.round(0.5 + 0.49 * np.stack([x, y], axis=-1), 2)


def _collection(
    images: list[dict[str, Any]], instances: list[list[dict[str, Any]]]
) -> dict[str, Any]:
    """Return the COCO content of `images` and their instances, whose ids count from 1."""
    annotations: list[dict[str, Any]] = []
    for image, found in zip(images, instances, strict=True):
        for entry in found:
            annotations.append({"id": len(annotations) + 1, "image_id": image["id"], **entry})
    return {
        "info": {
            "description": "Generated pictures of textured bodies",
            "version": "1",
            "contributor": "noisyvos",
        },
        "licenses": [LICENCE],
        "images": [{"license": 1, **image} for image in images],
        "annotations": annotations,
        "categories": [
            {"id": i, "name": name, "supercategory": "body"}
            for i, name in enumerate(sorted(FAMILIES), 1)
        ],
    }


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
