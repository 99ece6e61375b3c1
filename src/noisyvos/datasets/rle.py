"""COCO run-length masks: column-major runs, the first one of zeros."""

from typing import Any

import numpy as np

from noisyvos.io.masks import resize_mask


def decode_rle(shape: dict[str, Any]) -> np.ndarray:
    """Return the mask (H, W) uint8 0/1 of a run-length entry, {"size": [h, w], "counts": list or compressed string}."""
    height, width = shape["size"]
    if isinstance(shape["counts"], str):
        from pycocotools import mask as coco_mask

        return np.ascontiguousarray(
            coco_mask.decode({"size": [height, width], "counts": shape["counts"].encode()})
        )
    counts = np.asarray(shape["counts"])
    values = np.repeat(np.arange(len(counts)) % 2, counts).astype(np.uint8)
    return np.ascontiguousarray(values.reshape(width, height).T)


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """Return a mask (H, W) as an uncompressed run-length entry."""
    flat = np.concatenate([[0], (mask > 0).T.reshape(-1).astype(np.int8)])
    edges = np.flatnonzero(np.diff(flat, append=1 - flat[-1]))
    return {"size": list(mask.shape), "counts": np.diff(edges, prepend=0).tolist()}


def resize_rle(shape: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Return a run-length entry resized to (height, width) by nearest neighbour."""
    return encode_rle(resize_mask(decode_rle(shape), size))
