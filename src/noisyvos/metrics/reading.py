"""Masks to score: finding them in a collection, decoding them, and refusing what is no index mask of the right size."""

import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from noisyvos.errors import UserError
from noisyvos.io.masks import VOID, MaskCollection, davis_palette, decode_mask
from noisyvos.metrics.png import plain_indices
from noisyvos.metrics.protocols import Protocol


@dataclass(frozen=True)
class Rules:
    """How lenient to be: all are off unless asked for.

    ignore_extra_ids: predicted ids that are no object count as background instead of being an error.
    skip_missing: a sequence without any prediction is left out of the score instead of being an error.
    binary: any non-zero value, of truth and prediction, is object 1 (DAVIS 2016, whose masks hold 0 and 255).
    rgb: an RGB prediction in the colours of the DAVIS palette is read as indices.
    """

    ignore_extra_ids: bool = False
    skip_missing: bool = False
    binary: bool = False
    rgb: bool = False


@dataclass(frozen=True)
class Video:
    """One sequence to score: its name, its folder in either collection, all true frames and the scored ones."""

    name: str
    truth_folder: str
    results_folder: str
    frames: tuple[str, ...]
    scored: tuple[str, ...]


def plan(
    results: MaskCollection,
    truth: MaskCollection,
    protocol: Protocol,
    rules: Rules,
    wanted: Iterable[str] | None,
) -> tuple[list[Video], list[str]]:
    """Return the videos to score, in order, and the names of those skipped; nothing is decoded.

    Folders above the sequences (`480p/<sequence>`) are allowed on both sides. Raises FileNotFoundError naming the
    first sequence or frame that is missing, UserError if there is nothing to score.
    """
    folders = _without_common_parent(truth.sequences())
    names = (
        [name for name in (line.strip() for line in wanted) if name]
        if wanted is not None
        else list(folders)
    )
    if not names:
        raise UserError(
            f"{truth.path}: there is nothing to score here; <sequence>/<frame>.png files are expected."
        )
    videos, skipped = [], []
    for name in dict.fromkeys(names):
        if name not in folders:
            raise FileNotFoundError(
                f"{truth.path}: sequence {name!r} is to be scored, but it has no true masks here."
            )
        frames = truth.frames(folders[name])
        scored = protocol.scored(frames, name)
        folder = _find(results, name)
        if folder is None and rules.skip_missing:
            skipped.append(name)
            continue
        present = set(results.frames(folder)) if folder is not None else set()
        absent = [frame for frame in scored if frame not in present]
        if folder is None:
            raise FileNotFoundError(
                f"{results.path}: sequence {name!r} is missing; its frames {absent[0]} to {absent[-1]} are to be scored."
            )
        if absent:
            raise FileNotFoundError(
                f"{results.path}: {name}/{absent[0]}.png is missing ({len(absent)} of {len(scored)} scored frames are)."
            )
        videos.append(Video(name, folders[name], folder, frames, scored))
    if not videos:
        raise UserError(
            f"{results.path}: none of the {len(names)} sequences to score has predictions here."
        )
    return videos, skipped


def read_truth(truth: MaskCollection, video: Video, frame: str, rules: Rules) -> np.ndarray:
    """Return a true index mask (H, W) uint8; void is background, unless masks are binary."""
    mask = _decode(truth, video.truth_folder, frame)
    if rules.binary:
        return (mask != 0).view(np.uint8)
    return np.where(mask == VOID, np.uint8(0), mask) if mask.max() == VOID else mask


def read_prediction(
    results: MaskCollection,
    video: Video,
    frame: str,
    rules: Rules,
    ids: tuple[int, ...],
    size: tuple[int, int],
) -> np.ndarray:
    """Return a predicted index mask (H, W) uint8 of the given size with no id beyond the objects `ids`.

    Raises UserError naming the file for another size and for unknown ids (unless they are to be ignored: ids that are
    no object stay in the mask, where no object's score sees them).
    """
    mask = _decode(results, video.results_folder, frame, rules.rgb)
    where = f"{results.path}: {video.results_folder}/{frame}.png"
    if mask.shape != size:
        raise UserError(
            f"{where} is {mask.shape[0]}x{mask.shape[1]}, its true mask is {size[0]}x{size[1]} (height x width)."
        )
    if rules.binary:
        return (mask != 0).view(np.uint8)
    if not rules.ignore_extra_ids:
        _check_ids(mask, ids, where, video.name)
    return mask


def _check_ids(mask: np.ndarray, ids: tuple[int, ...], where: str, sequence: str) -> None:
    if mask.max() <= len(ids) == max(ids):
        return
    extra = sorted(set(np.unique(mask).tolist()) - {0, *ids})
    if extra:
        raise UserError(
            f"{where} holds id {', '.join(map(str, extra))}, but the objects of sequence {sequence!r} are "
            f"{', '.join(map(str, ids))}. Ask for unknown ids to be ignored if that is meant."
        )


def _without_common_parent(folders: Iterable[str]) -> dict[str, str]:
    """Return folders by sequence name: what follows the parent folder that all of them share, if there is one."""
    folders = list(folders)
    parents = {folder.rpartition("/")[0] for folder in folders}
    shared = len(parents) == 1
    return {folder.rpartition("/")[2] if shared else folder: folder for folder in folders}


def _find(results: MaskCollection, name: str) -> str | None:
    """Return the folder of a sequence: at the top, or else the only one of that name further down."""
    folders = results.sequences()
    if name in folders:
        return name
    nested = [folder for folder in folders if folder.endswith(f"/{name}")]
    if len(nested) > 1:
        raise UserError(
            f"{results.path}: sequence {name!r} is in several folders: {', '.join(nested)}. Give one of their parents."
        )
    return nested[0] if nested else None


def _decode(masks: MaskCollection, folder: str, frame: str, rgb: bool = False) -> np.ndarray:
    data = masks.read_bytes(folder, frame)
    mask = plain_indices(data)
    if mask is not None:
        return mask
    where = f"{masks.path}: {folder}/{frame}.png"
    return _from_colours(data, where) if rgb and _is_rgb(data) else decode_mask(data, where)


def _is_rgb(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.mode == "RGB"
    except (OSError, SyntaxError):
        return False


def _from_colours(data: bytes, where: str) -> np.ndarray:
    """Return the indices of an RGB image in the colours of the DAVIS palette; UserError for any other colour."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            colours = np.array(image).astype(np.uint32)
    except (OSError, SyntaxError) as error:
        raise UserError(f"{where}: this file cannot be read as a PNG mask ({error}).") from None
    codes = (colours[..., 0] << 16) | (colours[..., 1] << 8) | colours[..., 2]
    palette = davis_palette().astype(np.uint32)
    known = (palette[:, 0] << 16) | (palette[:, 1] << 8) | palette[:, 2]
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known[order], codes), len(known) - 1)
    indices = order[place].astype(np.uint8)
    if (known[indices] != codes).any():
        raise UserError(
            f"{where} is RGB and holds colours that are not in the DAVIS palette. Save it again as an indexed PNG."
        )
    return indices
