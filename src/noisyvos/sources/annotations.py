"""COCO annotations of generated pictures: polygons of what is visible, from index masks."""

from typing import Any

import cv2
import numpy as np

from noisyvos.sources.textures import FAMILIES

LICENCE = {"id": 1, "name": "CC0 1.0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}


def instance(mask: np.ndarray, family: str) -> dict[str, Any] | None:
    """Return polygons, box and area of the boolean `mask` (H, W) without ids; None if no polygon is left.

    Vertices are centres of border pixels, half a pixel off the whole numbers: cut to whole numbers and filled with the
    border, the polygons give back the mask; holes are not kept. Box and area are those of the pixels.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    polygons = [(contour[:, 0, :] + 0.5).ravel().tolist() for contour in contours if len(contour) >= 3]
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


def collection(images: list[dict[str, Any]], instances: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the COCO document of `images` (id, file_name, height, width) and their instances, ids counted from 1."""
    annotations: list[dict[str, Any]] = []
    for image, found in zip(images, instances, strict=True):
        for entry in found:
            annotations.append({"id": len(annotations) + 1, "image_id": image["id"], **entry})
    return {
        "info": {"description": "Generated pictures of textured bodies", "version": "1", "contributor": "noisyvos"},
        "licenses": [LICENCE],
        "images": [{"license": 1, **image} for image in images],
        "annotations": annotations,
        "categories": [{"id": i, "name": name, "supercategory": "body"} for i, name in enumerate(sorted(FAMILIES), 1)],
    }
