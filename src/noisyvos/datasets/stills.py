"""Sets of still images with masks: finding their pairs, reading their masks, and unifying them.

The dataset kind `static` and the command `convert unify` share this module. The rules of the five
sets that are unified are those of AFB-URR's pretraining (Liang et al. 2020, released code).
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from noisyvos.datasets.coco_format import index_mask, read_coco
from noisyvos.errors import UserError, unknown_name
from noisyvos.io.files import FRAME_SUFFIXES, files_in, normal
from noisyvos.io.grey_masks import read_colour_codes, read_grey
from noisyvos.io.images import checked_size
from noisyvos.io.mask_reader import decode_mask
from noisyvos.io.mask_rules import has_soft_edges
from noisyvos.io.masks import encode_mask
from noisyvos.io.text import read_names
from noisyvos.parallel import ordered_map

LEAST_COCO_AREA = 500
LAST_VOC_ID = 20

Rule = Literal["index", "grey", "colours", "voc", "coco"]


@dataclass(frozen=True)
class Pair:
    """An image and where its mask comes from: a file, or the shapes of COCO annotations.

    Rules: `index` reads ids, `grey` thresholds, `colours` and `voc` are those of `colour_mask` and
    `voc_mask`, `coco` draws `shapes` on (height, width) `size`.
    """

    image: Path
    rule: Rule
    mask: Path | None = None
    threshold: int = 128  # for rule `grey`: the lowest grey level of the object
    shapes: tuple[Any, ...] = ()
    size: tuple[int, int] = (0, 0)
    told: str = ""  # for messages: which annotations `shapes` are of

    def read_mask(self) -> np.ndarray:
        """Return the index mask (H, W) uint8; UserError names a mask that cannot be used."""
        if self.mask is None:
            return index_mask(self.shapes, self.size)
        match self.rule:
            case "grey":
                return read_grey(self.mask, self.threshold)
            case "colours":
                return colour_mask(self.mask)
            case "voc":
                return voc_mask(self.mask)
            case _:
                mask = decode_mask(self.mask)
                if has_soft_edges(mask):
                    print(
                        f"noisyvos: warning: {self.mask}: the values of this mask look like grey "
                        "levels of soft edges; each becomes an instance. For one object set "
                        "`threshold` of the dataset.",
                        file=sys.stderr,
                    )
                return mask


def colour_mask(path: Path) -> np.ndarray:
    """Return the index mask (H, W) uint8 of a saliency picture.

    Distinct colours in ascending (blue, green, red) order get 0, 1, 2, ... Those with a channel
    mean strictly between 0 and 128 become 0. In a picture without a black pixel the first bright
    colour becomes background, as in the released code.
    """
    codes = read_colour_codes(path)
    colours, place = np.unique(codes, return_inverse=True)
    total = (colours >> 16) + (colours >> 8 & 255) + (colours & 255)
    kept = (total == 0) | (total >= 3 * 128)
    if kept.sum() > 255:
        raise UserError(
            f"{path}: {kept.sum()} bright colours are too many for object ids. "
            "Is this a photograph instead of a mask?"
        )
    numbers = np.where(kept, np.cumsum(kept) - 1, 0)
    return numbers[place.reshape(codes.shape)].astype(np.uint8)


def voc_mask(path: Path) -> np.ndarray:
    """Return the index mask (H, W) uint8 of a VOC instance segmentation.

    Ids above 20 become background, void (255) included.
    """
    mask = decode_mask(path)
    return np.where(mask > LAST_VOC_ID, 0, mask).astype(np.uint8)


def pairs_below(images: Path, masks: Path, threshold: int | None, partial: bool) -> list[Pair]:
    """Return the images below a folder with PNG masks at the same place below `masks`, sorted.

    Images are JPEG, or PNG too where the masks are in another folder.

    `threshold` None reads masks as ids. FileNotFoundError names an image without a mask; with
    `partial` such images are left out.
    """
    # a PNG beside its own mask would be taken for one
    suffixes = (".jpg", ".jpeg") if images == masks else FRAME_SUFFIXES
    known = {
        normal(file.relative_to(masks).with_suffix("").as_posix()): file
        for file in files_in(masks, (".png",), deep=True)
    }
    pairs = []
    for file in files_in(images, suffixes, deep=True):
        relative = file.relative_to(images)
        mask = known.get(normal(relative.with_suffix("").as_posix()))
        if mask is not None:
            pairs.append(
                Pair(file, "index", mask)
                if threshold is None
                else Pair(file, "grey", mask, threshold)
            )
        elif not partial:
            mask = (masks / relative).with_suffix(".png")
            raise FileNotFoundError(f"{mask}: the mask of {relative} is not there.")
    return pairs


def _saliency(images: str, masks: str) -> Callable[[Path], Iterator[Pair]]:
    def find(folder: Path) -> Iterator[Pair]:
        for image in files_in(folder / images, (".jpg",)):
            yield Pair(image, "colours", folder / masks / f"{image.stem}.png")

    return find


def _voc(folder: Path) -> Iterator[Pair]:
    path = folder / "ImageSets" / "Segmentation" / "trainval.txt"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: this list of images is missing.")
    for name in read_names(path):
        image = folder / "JPEGImages" / f"{name}.jpg"
        yield Pair(image, "voc", folder / "SegmentationObject" / f"{name}.png")


def _coco(folder: Path) -> Iterator[Pair]:
    paths = [folder / "annotations" / f"instances_{part}2017.json" for part in ("val", "train")]
    for path in (path for path in paths if path.is_file()):
        content = read_coco(path)
        by_image: dict[int, list[dict[str, Any]]] = {}
        for entry in content["annotations"]:
            if entry["area"] >= LEAST_COCO_AREA:
                by_image.setdefault(entry["image_id"], []).append(entry)
        part = path.stem.removeprefix("instances_")
        for image in content["images"]:
            if entries := by_image.get(image["id"]):
                address = PurePosixPath(
                    str(image.get("coco_url") or f"{part}/{image['file_name']}")
                )
                yield Pair(
                    folder.joinpath(*address.parts[-2:]),
                    "coco",
                    shapes=tuple(entry["segmentation"] for entry in entries),
                    size=(image["height"], image["width"]),
                    told=f"{path.name} (image {image['id']}, annotation {entries[0]['id']})",
                )


SETS: dict[str, Callable[[Path], Iterator[Pair]]] = {
    "MSRA10K": _saliency("MSRA10K_Imgs_GT/Imgs", "MSRA10K_Imgs_GT/Imgs"),
    "ECSSD": _saliency("images", "ground_truth_mask"),
    "PASCAL-S": _saliency("datasets/imgs/pascal", "datasets/masks/pascal"),
    "PASCALVOC2012": _voc,
    "COCO": _coco,
}


def find_set(name: str, folder: Path) -> tuple[str, list[Pair]]:
    """Return the published spelling of set `name` (any case) and its pairs in `folder`.

    UserError or FileNotFoundError names a set, folder or file that is not there.
    """
    known = {known.lower(): known for known in SETS}
    if name.lower() not in known:
        raise unknown_name("image set", name, SETS)
    name = known[name.lower()]
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder.")
    pairs = list(SETS[name](folder))
    if not pairs:
        raise UserError(
            f"{folder}: no image of {name} with a mask was found here"
            + (f" (instances of area {LEAST_COCO_AREA} and more count)" if name == "COCO" else "")
            + ". Compare the folder with the layout in docs/how-to/new-dataset.md."
        )
    check_pairs(name, pairs)
    return name, pairs


def check_pairs(name: str, pairs: list[Pair]) -> None:
    """Refuse a set of which a file is missing, or two images have one name but for the ending.

    FileNotFoundError or UserError names the files.
    """
    stems: dict[str, Path] = {}
    for pair in pairs:
        for file in (pair.image, pair.mask):
            if file is not None and not file.is_file():
                raise FileNotFoundError(f"{file}: this file of {name} is missing.")
        other = stems.setdefault(pair.image.stem, pair.image)
        if other is not pair.image:
            raise UserError(
                f"{pair.image} and {other} share the name {pair.image.stem!r}, so one would "
                "replace the other. Rename one of them, or take it out."
            )


def unify(name: str, pairs: list[Pair], images: Path, masks: Path, workers: int = 1) -> int:
    """Write byte copies of all images and palette PNGs of all masks; return their number."""
    tasks = [(pair, images, masks) for pair in pairs]
    return sum(1 for _ in ordered_map(_unify_one, tasks, workers, f"unify {name}"))


def _unify_one(task: tuple[Pair, Path, Path]) -> None:
    pair, images, masks = task
    try:
        mask = pair.read_mask()
    except UserError as error:
        raise UserError(f"{pair.image.name}: {error}") from None
    size = checked_size(pair.image)
    if mask.shape != size:
        source = pair.told or pair.mask
        raise UserError(
            f"{pair.image}: this image is {size[1]}x{size[0]}, but by {source} it is "
            f"{mask.shape[1]}x{mask.shape[0]} (width x height). Correct the one that is wrong."
        )
    shutil.copyfile(pair.image, images / f"{pair.image.stem}.jpg")
    (masks / f"{pair.image.stem}.png").write_bytes(encode_mask(mask))
