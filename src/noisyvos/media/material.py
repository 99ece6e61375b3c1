"""What tables and figures need of masks, taken once where a cell is scored.

`score --for-report` writes two small files beside the scores: the areas of every object, and the
masks of the frames that example figures may show. So tables and figures decode no predictions.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from noisyvos.io.atomic import write_text
from noisyvos.io.masks import MaskCollection, encode_mask, mask_zip

AREAS = "areas.csv"
EXAMPLES = "examples.zip"
COLUMNS = 5  # frames of a video that an example figure shows
_PLAYED = 13  # frames of a video that a player shows; every third is one of those 5
_HEIGHT = 288  # pixels; larger example masks are stored at a whole fraction of their size


def shown_frames(annotated: Sequence[str]) -> list[str]:
    """Return the frames of a video that example figures show, spread evenly over `annotated`."""
    places = np.linspace(0, len(annotated) - 1, min(COLUMNS, len(annotated))).round()
    return [annotated[place] for place in places.astype(int)]


def stored_frames(annotated: Sequence[str]) -> list[str]:
    """Return the frames of a video whose masks are stored: up to 13, with all `shown_frames`."""
    places = np.linspace(0, len(annotated) - 1, min(_PLAYED, len(annotated))).round()
    kept = {annotated[place] for place in places.astype(int)} | set(shown_frames(annotated))
    return [frame for frame in annotated if frame in kept]


def reduced(mask: np.ndarray) -> np.ndarray:
    """Return every n-th row and column of a mask, so that at most 288 rows are left."""
    step = -(-mask.shape[0] // _HEIGHT)
    return mask[::step, ::step]


def reduced_frame(frame: np.ndarray) -> np.ndarray:
    """Return a frame (H, W, 3) uint8 at the size of its `reduced` mask."""
    height, width = reduced(frame[..., 0]).shape
    if (height, width) == frame.shape[:2]:
        return frame
    import cv2

    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)


def write_material(folder: Path, results: Path, truth: Path) -> None:
    """Write AREAS and EXAMPLES of predictions `results` to `folder`.

    AREAS has the numbers of true and predicted pixels of every true object, over all annotated
    frames but the first, which is given. EXAMPLES is a mask collection of `stored_frames`, reduced.
    Frames without a prediction are left out: a benchmark may not want them.
    """
    lines = ["sequence,object,true,predicted"]
    with (
        MaskCollection(results) as predicted,
        MaskCollection(truth) as true,
        mask_zip(folder / EXAMPLES) as add,
    ):
        for sequence in true.sequences():
            frames = true.frames(sequence)
            known = set(predicted.frames(sequence))
            shown = set(stored_frames(frames))
            areas = np.zeros((2, 256), np.int64)
            for number, frame in enumerate(frames):
                if frame not in known:
                    continue
                counted = number > 0
                if not (counted or frame in shown):
                    continue
                mask = predicted.read(sequence, frame)
                if frame in shown:
                    add(sequence, frame, encode_mask(reduced(mask)))
                if counted:
                    areas[0] += np.bincount(true.read(sequence, frame).ravel(), minlength=256)
                    areas[1] += np.bincount(mask.ravel(), minlength=256)
            lines += [
                f"{_quoted(sequence)},{number},{areas[0][number]},{areas[1][number]}"
                for number in range(1, 255)
                if areas[0][number]
            ]
    write_text(folder / AREAS, "\n".join(lines) + "\n")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n\r') else text
