"""What the page needs to play a video: small frames as one picture, and outlines as SVG paths.

Outlines are vectors: they stay sharp at every size, and a video takes some tens of kilobytes.
"""

import base64
import io
from typing import Any

import cv2
import numpy as np
from PIL import Image

from noisyvos.report.outlines import colour_of, objects_of, path_of
from noisyvos.report.pictures import Example

_HEIGHT = 200  # pixels of a frame in the page; larger ones are reduced
_QUALITY = 72  # of the pictures, WebP


def player(example: Example, title: str) -> dict[str, Any]:
    """Return the data of a player; `report` writes it into the page.

    `strip` is a WebP picture of all frames side by side, `size` that of the masks. Each tile has a
    label, J&F in percent of the video and of each frame (None: not scored), and `paths`: for each
    frame the outlines of each object as SVG path data. `truth` has the same for the true masks.
    """
    height, width = example.truths[0].shape
    tiles = []
    for label in example.shown:
        scores = example.frame_scores[label]
        tiles.append(
            {
                "label": label.replace("\n", ", "),
                "score": _percent(example.score(label)),
                "scores": [_percent(scores.get(name)) for name in example.names],
                "paths": [_paths(mask) for mask in example.predictions[label]],
            }
        )
    true = objects_of(*example.truths)
    predicted = objects_of(*(mask for masks in example.predictions.values() for mask in masks))
    ids = true + [number for number in predicted if number not in true]
    return {
        "title": title,
        "frames": example.names,
        "size": [width, height],
        "strip": _strip(example.frames),
        "colours": {str(number): colour_of(example.colours, number) for number in ids},
        "truth": [_paths(mask) for mask in example.truths],
        "tiles": tiles,
        "left_out": example.left_out,
    }


def _paths(mask: np.ndarray | None) -> dict[str, str]:
    if mask is None:
        return {}
    return {str(number): path_of(mask, number) for number in objects_of(mask)}


def _percent(value: float | None) -> float | None:
    return None if value is None or value != value else round(100 * value, 1)


def _strip(frames: list[np.ndarray]) -> str:
    """Return all frames side by side as a WebP picture in base64."""
    height, width = frames[0].shape[:2]
    if height > _HEIGHT:
        size = (round(width * _HEIGHT / height), _HEIGHT)
        frames = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]
    return webp(Image.fromarray(np.concatenate(frames, axis=1)), _QUALITY)


def webp(picture: Image.Image, quality: int) -> str:
    """Return a picture as WebP in base64."""
    data = io.BytesIO()
    picture.convert("RGB").save(data, "WEBP", quality=quality, method=4)
    return base64.b64encode(data.getvalue()).decode()
