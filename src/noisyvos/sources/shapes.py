"""The generated source: videos in DAVIS form and still pictures in COCO form, of textured bodies that move and deform."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from noisyvos.errors import UserError
from noisyvos.io.images import encode_frame, encode_mask
from noisyvos.registry import Settings
from noisyvos.seeding import numpy_generator
from noisyvos.sources import annotations
from noisyvos.sources.base import SOURCES, GeneratedSource
from noisyvos.sources.parallel import each
from noisyvos.sources.render import Painter, draw_mask
from noisyvos.sources.world import HEIGHT, Manner, Scene, draw_scene, still

FIRST_AREA = 75  # pixels an object must show in frame 0 of a picture 48 pixels high
LEAST_AREA = 24  # pixels it must show in every frame, unless it leaves
_ATTEMPTS = 2000


class ShapesSettings(Settings):
    """Settings of `shapes`; sizes are in pixels, as rendered (`convert` makes them smaller)."""

    seed: int = Field(ge=0)
    train_sequences: int = Field(ge=1, le=1000)
    val_sequences: int = Field(ge=1, le=1000)
    frames: int = Field(ge=3, le=200)
    images: int = Field(ge=1, le=100_000)
    height: int = Field(192, ge=HEIGHT)
    width: int = Field(288, ge=HEIGHT)
    image_height: int = Field(240, ge=HEIGHT)
    image_width: int = Field(360, ge=HEIGHT)

    @model_validator(mode="after")
    def _not_too_narrow(self) -> Self:
        if self.width < self.height or self.image_width < self.image_height:
            raise ValueError("pictures must be at least as wide as they are high")
        return self


@dataclass(frozen=True)
class Task:
    """One thing to make: a sequence of a split, or a still picture (split `images`)."""

    split: str
    index: int

    @property
    def name(self) -> str:
        """The name of the sequence, or of the picture's file without its ending (12 digits, as COCO's)."""
        return f"{self.index + 1:012d}" if self.split == "images" else f"{self.split}_{self.index:03d}"


@SOURCES.register("shapes", ShapesSettings)
class ShapesSource(GeneratedSource):
    """Textured bodies: 2 or 3 in a video, which deform, hide each other, leave and come back; 2 to 4 in a picture."""

    settings: ShapesSettings

    def generate(self, out: Path, workers: int = 1) -> str:
        """Write videos, split lists, pictures and their annotations below `out`; return what was made."""
        counts = {"train": self.settings.train_sequences, "val": self.settings.val_sequences, "images": self.settings.images}
        tasks = [Task(split, index) for split, count in counts.items() for index in range(count)]
        found = each(partial(_make, self.settings, out), tasks, workers, f"generate {self.name}")
        for split in ("train", "val"):
            names = [task.name for task in tasks if task.split == split]
            _write(out / "ImageSets" / "2017" / f"{split}.txt", ("\n".join(names) + "\n").encode())
        images = [_image_entry(self.settings, task) for task in tasks if task.split == "images"]
        document = annotations.collection(images, [entry for task, entry in zip(tasks, found, strict=True) if task.split == "images"])
        _write(out / "annotations" / "instances_train.json", json.dumps(document, sort_keys=True).encode())
        return (
            f"{counts['train']} train and {counts['val']} val sequences of {self.settings.frames} frames, "
            f"{counts['images']} pictures with {len(document['annotations'])} annotated objects"
        )


def draw_valid_scene(settings: ShapesSettings, task: Task) -> Scene:
    """Return the first random scene of `task` in which every object shows enough; UserError if none is found.

    In frame 0 each object shows `FIRST_AREA` pixels at a height of 48, in the others `LEAST_AREA`; one that leaves
    shows none for a while and `LEAST_AREA` in the last frame.
    """
    if task.split == "images":
        manner, aspect = still((2, 4)), settings.image_width / settings.image_height
    else:
        manner, aspect = Manner(settings.frames, (2, 3)), settings.width / settings.height
    for attempt in range(_ATTEMPTS):
        scene = draw_scene(numpy_generator("shapes scene", settings.seed, task.split, task.index, attempt), manner, aspect)
        if _shows_enough(scene, manner.frames, (HEIGHT, round(HEIGHT * aspect))):
            return scene
    raise UserError(f"No valid scene for {task.name} in {_ATTEMPTS} attempts: `frames` is too large for objects to stay visible. Lower it.")


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


def _make(settings: ShapesSettings, out: Path, task: Task) -> list[dict[str, Any]]:
    """Write the files of one task; return the annotations of a still picture, front to back, and nothing for a video."""
    scene = draw_valid_scene(settings, task)
    stream = numpy_generator("shapes surface", settings.seed, task.split, task.index)
    if task.split == "images":
        return _make_image(settings, out, task, scene, stream)
    shape = (settings.height, settings.width)
    painter = Painter(scene, shape, stream)
    for frame in range(settings.frames):
        grain = numpy_generator("shapes grain", settings.seed, task.split, task.index, frame)
        _write(out / "JPEGImages" / "480p" / task.name / f"{frame:05d}.jpg", encode_frame(painter.draw_frame(frame, grain)))
        _write(out / "Annotations" / "480p" / task.name / f"{frame:05d}.png", encode_mask(draw_mask(scene, frame, shape)))
    return []


def _make_image(settings: ShapesSettings, out: Path, task: Task, scene: Scene, stream: np.random.Generator) -> list[dict[str, Any]]:
    shape = (settings.image_height, settings.image_width)
    grain = numpy_generator("shapes grain", settings.seed, task.split, task.index, 0)
    _write(out / "images" / "train" / f"{task.name}.jpg", encode_frame(Painter(scene, shape, stream).draw_frame(0, grain)))
    mask = draw_mask(scene, 0, shape)
    entries = (annotations.instance(mask == body.label, body.family) for body in reversed(scene.bodies))
    return [entry for entry in entries if entry is not None]


def _image_entry(settings: ShapesSettings, task: Task) -> dict[str, Any]:
    return {"id": task.index + 1, "file_name": f"{task.name}.jpg", "height": settings.image_height, "width": settings.image_width}


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
