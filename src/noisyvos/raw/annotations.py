"""COCO annotations of generated pictures: polygons of what is visible, from index masks."""

from typing import Any

import cv2
import numpy as np

from noisyvos.raw.textures import FAMILIES

LICENCE = {"id": 1, "name": "CC0 1.0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}


def instance(mask: np.ndarray, family: str) -> dict[str, Any] | None:
    """Return polygons, box and area of the boolean `mask` (H, W) without ids; None if no polygon is left.

    Vertices lie in border pixels, close to their outer sides: cut to whole numbers and filled with the border, the
    polygons give back the mask, and as exact outlines they enclose nearly its area. Holes are not kept.
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
    """Return for every pixel a place (x, y) in it, each in (0, 1): the middle, or close to the sides beyond which the mask ends."""
    around = np.pad(mask, 1).astype(np.float64)
    x = around[1:-1, :-2] - around[1:-1, 2:]
    y = around[:-2, 1:-1] - around[2:, 1:-1]
    return np.round(0.5 + 0.49 * np.stack([x, y], axis=-1), 2)


def collection(
    images: list[dict[str, Any]], instances: list[list[dict[str, Any]]]
) -> dict[str, Any]:
    """Return the COCO document of `images` (id, file_name, height, width) and their instances, ids counted from 1."""
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
