"""Still-image sets of five layouts brought into one: JPEGImages/<NAME>/*.jpg with palette masks Annotations/<NAME>/*.png.

These are the static images on which AFB-URR is pretrained (specification of its unify_pretrain_dataset).
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from noisyvos.errors import UserError
from noisyvos.io.masks import decode_mask

LEAST_COCO_AREA = 500
LAST_VOC_ID = 20


@dataclass(frozen=True)
class Pair:
    """One image of a set, and where its mask comes from: a file, or COCO annotations with the image's size."""

    image: Path
    mask: Path | None = None
    annotations: tuple[dict[str, Any], ...] = ()
    size: tuple[int, int] = (0, 0)


def colour_mask(path: Path) -> np.ndarray:
    """Return the index mask of a saliency picture.

    Distinct colours in ascending (blue, green, red) order get 0, 1, 2, ...; those whose channel mean lies strictly
    between 0 and 128 are dropped to 0. Without a black pixel the first bright colour becomes background, as published.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise UserError(f"{path}: this file cannot be read as an image.")
    codes = picture.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colours, place = np.unique(codes, return_inverse=True)
    total = (colours >> 16) + (colours >> 8 & 255) + (colours & 255)
    kept = (total == 0) | (total >= 3 * 128)
    if kept.sum() > 255:
        raise UserError(
            f"{path}: {kept.sum()} bright colours are too many for object ids. Is this a photograph instead of a mask?"
        )
    numbers = np.where(kept, np.cumsum(kept) - 1, 0)
    return numbers[place.reshape(codes.shape)].astype(np.uint8)


def voc_mask(path: Path) -> np.ndarray:
    """Return the index mask of a VOC instance segmentation; ids above 20, void (255) included, become background."""
    mask = decode_mask(path)
    return np.where(mask > LAST_VOC_ID, 0, mask).astype(np.uint8)


def coco_mask(annotations: tuple[dict[str, Any], ...], size: tuple[int, int]) -> np.ndarray:
    """Return the index mask (H, W) of COCO annotations: 1, 2, ... in their order, later ones over earlier ones."""
    from pycocotools import mask as coco

    if len(annotations) > 254:
        raise UserError(
            f"{len(annotations)} instances in one image are more than a mask can hold (254)."
        )
    result = np.zeros(size, np.uint8)
    for number, annotation in enumerate(annotations, 1):
        shape = annotation["segmentation"]
        if isinstance(shape, list):
            runs = coco.merge(coco.frPyObjects(shape, *size))
        else:
            runs = coco.frPyObjects(shape, *size) if isinstance(shape["counts"], list) else shape
        result[coco.decode(runs) > 0] = number
    return result


def mask_of(name: str, pair: Pair) -> np.ndarray:
    """Return the index mask of one image of set `name`."""
    if pair.mask is None:
        return coco_mask(pair.annotations, pair.size)
    return voc_mask(pair.mask) if name == "PASCALVOC2012" else colour_mask(pair.mask)


def _saliency(images: str, masks: str) -> Callable[[Path], Iterator[Pair]]:
    def find(source: Path) -> Iterator[Pair]:
        for image in sorted((source / images).glob("*.jpg")):
            yield Pair(image, source / masks / f"{image.stem}.png")

    return find


def _voc(source: Path) -> Iterator[Pair]:
    path = source / "ImageSets" / "Segmentation" / "trainval.txt"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: this list of images is missing.")
    for name in path.read_text(encoding="utf-8").split():
        yield Pair(
            source / "JPEGImages" / f"{name}.jpg", source / "SegmentationObject" / f"{name}.png"
        )


def _coco(source: Path) -> Iterator[Pair]:
    paths = [source / "annotations" / f"instances_{part}2017.json" for part in ("val", "train")]
    for path in (path for path in paths if path.is_file()):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            by_image: dict[int, list[dict[str, Any]]] = {}
            for annotation in content["annotations"]:
                if annotation["area"] >= LEAST_COCO_AREA:
                    by_image.setdefault(annotation["image_id"], []).append(
                        {"segmentation": annotation["segmentation"]}
                    )
            found = [
                (
                    image["coco_url"],
                    by_image.get(image["id"], []),
                    (image["height"], image["width"]),
                )
                for image in content["images"]
            ]
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: this is not a COCO instances file ({type(error).__name__}: {error})."
            ) from None
        for url, annotations, size in found:
            if annotations:
                yield Pair(
                    source.joinpath(*PurePosixPath(url).parts[-2:]), None, tuple(annotations), size
                )


SETS: dict[str, Callable[[Path], Iterator[Pair]]] = {
    "MSRA10K": _saliency("MSRA10K_Imgs_GT/Imgs", "MSRA10K_Imgs_GT/Imgs"),
    "ECSSD": _saliency("images", "ground_truth_mask"),
    "PASCAL-S": _saliency("datasets/imgs/pascal", "datasets/masks/pascal"),
    "PASCALVOC2012": _voc,
    "COCO": _coco,
}
