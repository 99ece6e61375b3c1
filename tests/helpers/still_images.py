"""A tiny converted image dataset, for the tests of clips made from still images."""

import json
from pathlib import Path

import numpy as np

from noisyvos.io.images import encode_frame


def write_images(
    root: Path, shapes: dict[int, list[list[float]]], *, repeat: dict[int, int] | None = None
) -> Path:
    """Write three dark converted images of 60x80 with bright squares (polygon corners)."""
    (root / "images").mkdir(parents=True)
    entries, annotations = [], []
    for number in range(3):
        frame = np.full((60, 80, 3), 40 + 10 * number, np.uint8)
        for left, top, right, bottom in shapes.get(number, []):
            frame[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = 220
            polygon = [left, top, right, top, right, bottom, left, bottom]
            annotation = {
                "image_id": number,
                "segmentation": [polygon],
                "bbox": [left, top, right - left, bottom - top],
            }
            annotations.append({"id": len(annotations)} | annotation)
        (root / "images" / f"{number}.jpg").write_bytes(encode_frame(frame))
        entry = {"id": number, "file_name": f"{number}.jpg", "height": 60, "width": 80}
        entries.append(entry | ({"repeat": repeat[number]} if repeat and number in repeat else {}))
    (root / "instances.json").write_text(
        json.dumps({"images": entries, "annotations": annotations})
    )
    (root / "meta.json").write_text(json.dumps({"kind": "images", "name": "stills"}))
    return root
