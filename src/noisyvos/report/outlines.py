"""Masks drawn so that they show on any frame: bright outlines with a dark rim, truth dashed white.

The colours of a video's objects are chosen against its frames. Outlines of the truth differ from
those of predictions by their dashes, so that readers need no colour to tell the two apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from noisyvos.io.masks import VOID

# bright, and apart from one another for colour-blind readers; white is left to the truth
BRIGHT = ("#ffb000", "#4cc9ff", "#00e5a0", "#ff7ad9", "#fff04d", "#ff5a36")
_TINT = 0.2
_TILE = 180  # pixels; tiles of smaller frames are enlarged to this height
_DASH = 6  # pixels of a dash, and of the gap after it
_SMOOTHING = 0.6  # pixels that an outline of a player may differ from the mask's border
_GAP = 4
_PERCENTILE = 10  # of the distances to the frame: a colour must differ from nearly all pixels

Colours = dict[int, str]


def rgb(colour: str) -> tuple[int, int, int]:
    """Return the parts of a colour #rrggbb."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _lab(pixels: np.ndarray) -> np.ndarray:
    """Return RGB colours (N, 3) uint8 in CIELAB, (N, 3) float32."""
    return cv2.cvtColor(pixels[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]


def objects_of(*masks: np.ndarray | None) -> list[int]:
    """Return the ids of the objects in masks (H, W), in ascending order."""
    ids = {int(number) for mask in masks if mask is not None for number in np.unique(mask)}
    return sorted(ids - {0, VOID})


def object_colours(frames: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> Colours:
    """Return a colour of BRIGHT for each object of a video, far from the pixels around it.

    frames: (H, W, 3) uint8; masks: (H, W) of object ids. The objects are taken in the order of
    their ids; each takes the colour that differs most from its surroundings and from the colours
    taken before.
    """
    candidates = _lab(np.array([rgb(colour) for colour in BRIGHT], np.uint8))
    found: Colours = {}
    taken: list[int] = []
    for number in objects_of(*masks):
        around = [
            frame[cv2.dilate((mask == number).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0]
            for frame, mask in zip(frames, masks, strict=True)
        ]
        pixels = _lab(np.concatenate(around))
        apart = np.linalg.norm(
            candidates[:, None] - pixels[None, :: 1 + len(pixels) // 4000], axis=2
        )
        worth = np.percentile(apart, _PERCENTILE, axis=1)
        for place in taken:
            worth = np.minimum(worth, np.linalg.norm(candidates - candidates[place], axis=1))
        if len(taken) >= len(BRIGHT):  # more objects than colours: use each again in turn
            best = taken[len(taken) % len(BRIGHT)]
        else:
            worth[taken] = -1
            best = int(worth.argmax())
        taken.append(best)
        found[number] = BRIGHT[best]
    return found


def colour_of(colours: Colours, number: int) -> str:
    """Return the colour of an object; predictions may hold ids that the truth lacks."""
    return colours.get(number, BRIGHT[number % len(BRIGHT)])


def contours(mask: np.ndarray, number: int, factor: int = 1) -> list[np.ndarray]:
    """Return the closed outlines (N, 2) int32 of one object, outer and inner ones.

    factor: how many times larger than the mask the picture is.
    """
    inside = (mask == number).astype(np.uint8)
    if factor > 1:
        inside = np.kron(inside, np.ones((factor, factor), np.uint8))
    found, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [outline[:, 0] for outline in found]


def path_of(mask: np.ndarray, number: int) -> str:
    """Return the outlines of one object as the data of an SVG path in pixels of the mask."""
    parts = []
    for outline in contours(mask, number):
        corners = cv2.approxPolyDP(outline[:, None], _SMOOTHING, closed=True)[:, 0]
        if len(corners) < 3:  # a point or a line has no area; a square of one pixel shows it
            x, y = corners[0]
            parts.append(f"M{x} {y}h1v1h-1z")
            continue
        first, *rest = corners.tolist()
        steps = " ".join(f"{x} {y}" for x, y in rest)
        parts.append(f"M{first[0]} {first[1]}L{steps}z")
    return "".join(parts)


def drawn(
    frame: np.ndarray,
    mask: np.ndarray | None,
    truth: np.ndarray | None,
    colours: Colours,
) -> np.ndarray:
    """Return a frame (H, W, 3) uint8 with a prediction and the truth, at least 180 rows high.

    mask: tinted, with a solid outline in its object's colour. truth: a dashed white outline. Both
    are (H, W) of object ids; None draws neither. The picture is a whole multiple of the frame.
    """
    factor = max(1, -(-_TILE // frame.shape[0]))
    out = frame.copy()
    if factor > 1:
        out = cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    for number in objects_of(mask, truth):
        tone = rgb(colour_of(colours, number))
        if mask is not None:
            outlines = contours(mask, number, factor)
            inside = np.kron(mask == number, np.ones((factor, factor), bool))
            tinted = (1 - _TINT) * out[inside] + _TINT * np.array(tone)
            out[inside] = tinted.round().astype(np.uint8)
            cv2.polylines(out, outlines, True, (0, 0, 0), 4, cv2.LINE_AA)
            cv2.polylines(out, outlines, True, tone, 2, cv2.LINE_AA)
        if truth is not None:
            for outline in contours(truth, number, factor):
                for place in range(0, len(outline), 2 * _DASH):
                    piece = outline[place : place + _DASH]
                    cv2.polylines(out, [piece], False, (0, 0, 0), 3, cv2.LINE_AA)
                    cv2.polylines(out, [piece], False, (255, 255, 255), 1, cv2.LINE_AA)
    return out


@dataclass(frozen=True)
class Row:
    """One row of a sheet: a label, a mask for each frame (None draws the bare frame), captions."""

    label: str
    masks: Sequence[np.ndarray | None]
    captions: Sequence[str] = ()
    truth: bool = False  # outline the truth as well


@dataclass(frozen=True)
class Sheet:
    """A picture of rows x frames with the size (height, width) of its tiles, gap included."""

    picture: np.ndarray
    tile: tuple[int, int]

    def middle(self, row: int) -> int:
        """Return the vertical centre of a row in pixels."""
        return row * self.tile[0] + (self.tile[0] - _GAP) // 2

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Return the upper left corner (x, y) of a tile."""
        return column * self.tile[1], row * self.tile[0]


def sheet(
    frames: Sequence[np.ndarray],
    rows: Sequence[Row],
    truths: Sequence[np.ndarray | None],
    colours: Colours | Sequence[Colours],
) -> Sheet:
    """Return one RGB picture of rows x frames, which have equal sizes.

    truths: the true masks, outlined in the rows that ask for it. colours: those of the objects, for
    all frames or one for each.
    """
    each = [colours] * len(frames) if isinstance(colours, dict) else list(colours)
    lines = []
    for row in rows:
        tiles = [
            drawn(frame, mask, truth if row.truth else None, of_frame)
            for frame, mask, truth, of_frame in zip(frames, row.masks, truths, each, strict=True)
        ]
        padded = [
            np.pad(tile, ((0, _GAP), (0, _GAP), (0, 0)), constant_values=255) for tile in tiles
        ]
        lines.append(np.concatenate(padded, axis=1))
    height, width = padded[0].shape[:2]
    return Sheet(np.concatenate(lines), (height, width))
