"""Contact sheets: some frames of a dataset's videos, images or clips with their masks."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from noisyvos.datasets.coco_format import check_corners, decode_rle
from noisyvos.datasets.layout import Sequence, VideoDataset, read_meta
from noisyvos.errors import UserError
from noisyvos.io.forms import damaged, read_instances_file
from noisyvos.io.images import read_frame
from noisyvos.io.mask_reader import decode_mask
from noisyvos.media.overlays import overlay

HEIGHT = 150  # of a tile, pixels
FRAMES = 6  # of a video
GAP = 4
_CAPTION = 16


@dataclass(frozen=True)
class Tile:
    """A frame (H, W, 3) uint8 with its index mask (None: it has none) and what to write below."""

    frame: np.ndarray
    mask: np.ndarray | None
    caption: str


@dataclass(frozen=True)
class Strip:
    """Tiles that belong together, under one title."""

    title: str
    tiles: list[Tile]


def spread(count: int, wanted: int) -> list[int]:
    """Return `wanted` of the numbers 0..count - 1, evenly spread from the first to the last.

    Returns all of them if there are fewer.
    """
    if count <= wanted:
        return list(range(count))
    return (
        sorted({round(place) for place in np.linspace(0, count - 1, wanted)}) if wanted > 1 else [0]
    )


def video_strips(data: VideoDataset, sequences: int) -> list[Strip]:
    """Return evenly spread videos of a dataset, each with evenly spread frames.

    Frames with a mask are preferred.
    """
    names = list(data.sequences)
    return [
        _video_strip(data, data.sequences[names[place]]) for place in spread(len(names), sequences)
    ]


def _video_strip(data: VideoDataset, sequence: Sequence) -> Strip:
    annotated = [sequence.frames.index(frame) for frame in sequence.masks]
    if len(annotated) >= FRAMES:
        shown = [annotated[place] for place in spread(len(annotated), FRAMES)]
    else:
        others = [place for place in spread(len(sequence.frames), FRAMES) if place not in annotated]
        shown = sorted([*annotated, *others[: FRAMES - len(annotated)]])
    tiles = []
    for place in shown:
        frame = sequence.frames[place]
        has_mask = frame in sequence.masks
        mask = (
            decode_mask(data.root / "masks" / sequence.name / f"{frame}.png") if has_mask else None
        )
        tiles.append(
            Tile(
                data.read_frame(sequence.name, frame),
                mask,
                frame if has_mask else f"{frame} no mask",
            )
        )
    height, width = sequence.size
    objects = ", ".join(map(str, sequence.objects))
    facts = f"{len(sequence.frames)} frames, {len(sequence.masks)} masks, objects {objects}"
    wanted = "" if sequence.required is None else f", {len(sequence.required)} results wanted"
    return Strip(f"{sequence.name}: {width}x{height}, {facts}{wanted}", tiles)


def image_strips(root: Path, sequences: int) -> list[Strip]:
    """Return evenly spread images of an image dataset, some in a strip.

    Later instances cover earlier ones; crowds are void.
    """
    content = read_instances_file(root)
    images = content["images"]
    chosen = [images[place] for place in spread(len(images), sequences * FRAMES // 2)]
    entries: dict[int, list[dict]] = {image["id"]: [] for image in chosen}
    for entry in content["annotations"]:
        if entry["image_id"] in entries:
            entries[entry["image_id"]].append(entry)
    tiles = []
    for image in chosen:
        with damaged(root / "instances.json", "Convert the dataset again."):
            mask = _instances_mask(entries[image["id"]], (image["height"], image["width"]))
        caption = (
            f"{image['file_name']} {image['width']}x{image['height']}, "
            f"{len(entries[image['id']])} instances"
        )
        tiles.append(Tile(read_frame(root / "images" / image["file_name"]), mask, caption))
    name = read_meta(root, kind="images")["name"]
    total = f"{name}: {len(images)} images, {len(content['annotations'])} instances"
    strips = [tiles[place : place + FRAMES // 2] for place in range(0, len(tiles), FRAMES // 2)]
    return [Strip(total if not place else "", strip) for place, strip in enumerate(strips)]


def _instances_mask(entries: Iterable[dict], size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    for number, entry in enumerate(entries, 1):
        value = 255 if entry.get("iscrowd") else 1 + (number - 1) % 254
        shape = entry["segmentation"]
        if isinstance(shape, dict):
            mask[decode_rle(shape) > 0] = value
        else:
            parts = [np.asarray(part, np.float64).reshape(-1, 2) for part in shape if part]
            for corners in parts:
                check_corners(corners)
            cv2.fillPoly(mask, [corners.astype(np.int32) for corners in parts], value)
    return mask


def clip_strips(root: Path, sequences: int) -> list[Strip]:
    """Return evenly spread clips of what `synth` wrote, two in a strip."""
    from noisyvos.synth.shards import ClipShards

    clips = ClipShards(root)
    numbers = spread(len(clips), 2 * sequences)
    strips = []
    for place in range(0, len(numbers), 2):
        tiles = []
        for number in numbers[place : place + 2]:
            frames, masks = clips.read(number)
            tiles += [
                Tile(f, m, f"clip {number}, frame {time}")
                for time, (f, m) in enumerate(zip(frames, masks), 1)
            ]
        strips.append(
            Strip(f"{len(clips)} clips of {clips.crop} pixels" if not place else "", tiles)
        )
    return strips


def strips_of(root: Path, sequences: int) -> list[Strip]:
    """Return the strips of a converted dataset or a folder of clips.

    UserError if `root` is neither or empty.
    """
    meta = root / "meta.json"
    kind = read_meta(root, kind=None)["kind"] if meta.is_file() else None
    if kind == "video":
        strips = video_strips(VideoDataset(root), sequences)
    elif kind == "images":
        strips = image_strips(root, sequences)
    elif kind == "clips":
        strips = clip_strips(root, sequences)
    else:
        raise UserError(
            f"{root}: neither a converted dataset nor a folder of clips "
            f"(its meta.json says {kind!r})."
        )
    if not strips:
        raise UserError(f"{root}: there is nothing in it to show.")
    return strips


def draw(strips: list[Strip]) -> np.ndarray:
    """Return all strips below one another as one RGB picture (H, W, 3) uint8."""
    rows = []
    for strip in strips:
        tiles = np.concatenate([_drawn(tile) for tile in strip.tiles], axis=1)
        if strip.title:
            missing = max(0, _text_width(strip.title, 0.45) - tiles.shape[1])
            tiles = np.pad(tiles, ((0, 0), (0, missing), (0, 0)), constant_values=255)
            rows.append(_line(strip.title, tiles.shape[1], 20, 0.45))
        rows.append(tiles)
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [
            np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255)
            for row in rows
        ]
    )


def _drawn(tile: Tile) -> np.ndarray:
    height, width = tile.frame.shape[:2]
    size = (max(1, round(width * HEIGHT / height)), HEIGHT)
    method = cv2.INTER_AREA if height > HEIGHT else cv2.INTER_CUBIC
    picture = cv2.resize(tile.frame, size, interpolation=method)
    if tile.mask is not None:
        if tile.mask.shape != (height, width):
            raise UserError(
                f"{tile.caption}: the mask is {tile.mask.shape}, the frame {(height, width)}. "
                "Run `noisyvos check`."
            )
        picture = overlay(
            picture, cv2.resize(tile.mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
        )
    width = max(size[0], _text_width(tile.caption, 0.36))
    picture = np.pad(picture, ((0, 0), (0, width - size[0]), (0, 0)), constant_values=255)
    picture = np.concatenate([picture, _line(tile.caption, width, _CAPTION, 0.36)])
    return np.pad(picture, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)


def _text_width(text: str, scale: float) -> int:
    return cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0] + GAP


def _line(text: str, width: int, height: int, scale: float) -> np.ndarray:
    line = np.full((height, width, 3), 255, np.uint8)
    cv2.putText(
        line, text, (2, height - 5), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA
    )
    return line
