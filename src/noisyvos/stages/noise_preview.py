"""Preview of label noise: one frame under several noise settings, as a contact sheet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from noisyvos.datasets.layout import VideoDataset
from noisyvos.errors import UserError
from noisyvos.io.atomic import atomic_file
from noisyvos.io.masks import VOID
from noisyvos.media.overlays import enlarge, overlay
from noisyvos.noise import FROM_FILES, corrupt
from noisyvos.noise.base import NOISE
from noisyvos.noise.engine.calibration import object_ious
from noisyvos.noise.engine.geometry import object_boxes, widen
from noisyvos.params.entries import read_entry, read_family

COLUMNS = 4
CAPTION = 16  # pixels
IN_TIME = ("drop", "swap", "frame_delete", "clean")  # kinds that a single frame cannot show


def run(
    dataset: Path,
    *,
    out: Path,
    noises: Sequence[str] = (),
    frame: str | None = None,
    seed: int = 0,
    params: Path = Path("params"),
) -> None:
    """Write a PNG with one tile per noise: noisy labels, clean outlines in white, name and mean
    IoU.

    `noises` are names in noise.yaml (default: all that a single frame can show). `frame` is
    <sequence>/<frame> (default: a frame with the most objects). Raises UserError for unknown names
    and frames.
    """
    entries = read_family(params, "noise")
    names = list(noises) or [
        name for name, entry in entries.items() if entry.get("kind") not in (*IN_TIME, *FROM_FILES)
    ]
    settings = {name: read_entry(params, "noise", name, NOISE) for name in names}
    data = VideoDataset(dataset)
    sequence, name = pick(data, frame)
    mask, picture = data.read_mask(sequence, name), data.read_frame(sequence, name)
    tiles = [tile(picture, mask, mask, "clean")]
    for title, (item, values) in settings.items():
        given: dict[str, Any] = values.model_dump(exclude_unset=True)
        noisy = corrupt(mask, item.name, seed=seed, key=(*data.origin(sequence), name), **given)
        iou = float(np.mean(list(object_ious(mask, noisy).values())))
        tiles.append(tile(picture, mask, noisy, f"{title}  {iou:.2f}"))
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (-len(tiles) % COLUMNS)
    rows = [np.concatenate(tiles[k : k + COLUMNS], axis=1) for k in range(0, len(tiles), COLUMNS)]
    done, code = cv2.imencode(".png", np.concatenate(rows)[:, :, ::-1])
    if not done:
        raise UserError(
            f"{out}: a sheet of {len(tiles)} tiles cannot be encoded as PNG. Choose fewer noises."
        )
    with atomic_file(out) as temporary:
        temporary.write_bytes(code.tobytes())
    print(f"{len(settings)} kinds of noise on {sequence}/{name} in {out}")


def pick(data: VideoDataset, frame: str | None) -> tuple[str, str]:
    """Return (sequence, frame) of the frame to show."""
    if frame is not None:
        sequence, _, name = frame.rpartition("/")
        if sequence not in data.sequences or name not in data.sequences[sequence].masks:
            raise UserError(
                f"{data.root}: no mask for frame {frame!r}. Give it as <sequence>/<frame>."
            )
        return sequence, name
    labelled = [entry for entry in data.sequences.values() if entry.masks]
    if not labelled:
        raise UserError(f"{data.root}: no sequence has a mask, so there is no frame to preview.")
    best = max(labelled, key=lambda entry: len(entry.objects))
    return best.name, best.masks[len(best.masks) // 2]


def tile(picture: np.ndarray, clean: np.ndarray, noisy: np.ndarray, caption: str) -> np.ndarray:
    """Return one tile: the region around the objects, enlarged, with noisy labels and a caption.

    Clean outlines are white.
    """
    boxes = object_boxes(clean).values()
    rows, columns = (
        slice(
            min((box[axis].start for box in boxes), default=0),
            max((box[axis].stop for box in boxes), default=clean.shape[axis]),
        )
        for axis in (0, 1)
    )
    margin = max(8, (rows.stop - rows.start + columns.stop - columns.start) // 8)
    box = widen((rows, columns), margin, clean.shape)
    shown = enlarge(overlay(picture[box], noisy[box]))
    factor = shown.shape[0] // (box[0].stop - box[0].start)
    large = np.repeat(np.repeat(clean[box], factor, axis=0), factor, axis=1)
    inside = ((large > 0) & (large < VOID)).astype(np.uint8)
    edge = inside.astype(bool) & ~cv2.erode(inside, np.ones((3, 3), np.uint8)).astype(bool)
    shown[edge] = 255
    strip = np.full((CAPTION, shown.shape[1], 3), 255, np.uint8)
    cv2.putText(
        strip, caption, (3, CAPTION - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA
    )
    return np.pad(np.concatenate([shown, strip]), ((2, 2), (2, 2), (0, 0)), constant_values=255)
