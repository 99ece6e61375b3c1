"""Masks to score: decoding them, and refusing what is not an index mask of the right size.

Nearly all masks are 8-bit palette or grey PNGs without row filters and interlacing, as benchmarks
and this package write them. Inflating such a file gives the indices, with a zero before each row.
Decoding them here takes a third less time than a general decoder needs.
"""

import struct
import zlib

import numpy as np

from noisyvos.errors import UserError
from noisyvos.io.mask_reader import decode_binary, decode_mask
from noisyvos.io.mask_rules import ONE_OBJECT_HINT, VOID, has_soft_edges, refuse_soft_edges
from noisyvos.io.masks import MaskCollection
from noisyvos.metrics.protocols import Rules, ScoredVideo

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# may move the background to another index, turn the mask, or hold more pictures
_SPECIAL = (b"tRNS", b"eXIf", b"acTL")
_HEADER = struct.Struct(">IIBBBBB")
_LARGEST = 1 << 28  # pixels; the general decoder checks headers that claim more


def read_truth(truth: MaskCollection, video: ScoredVideo, frame: str, rules: Rules) -> np.ndarray:
    """Return a true index mask (H, W) uint8; void is background, unless masks are binary."""
    mask = _decode(truth, video.truth_folder, frame, rules)
    if rules.binary:
        return mask
    return np.where(mask == VOID, np.uint8(0), mask) if mask.max() == VOID else mask


def read_prediction(
    results: MaskCollection,
    video: ScoredVideo,
    frame: str,
    rules: Rules,
    ids: tuple[int, ...],
    size: tuple[int, int],
) -> np.ndarray:
    """Return a predicted index mask (H, W) uint8 of the given size without ids beyond `ids`.

    UserError names the file for another size and for unknown ids. Where those are ignored, they
    stay in the mask and affect no object's score.
    """
    mask = _decode(results, video.results_folder, frame, rules)
    where = f"{results.path}: {video.results_folder}/{frame}.png"
    if mask.shape != size:
        raise UserError(
            f"{where} is {mask.shape[0]}x{mask.shape[1]}, its true mask is {size[0]}x{size[1]} "
            "(height x width)."
        )
    if rules.binary:
        return mask
    if not rules.ignore_extra_ids:
        _check_ids(mask, ids, where, video.name)
    return mask


def _check_ids(mask: np.ndarray, ids: tuple[int, ...], where: str, sequence: str) -> None:
    if mask.max() <= len(ids) == max(ids):
        return
    extra = sorted(set(np.unique(mask).tolist()) - {0, *ids})
    if extra:
        raise UserError(
            f"{where} holds id {', '.join(map(str, extra))}, but the objects of sequence "
            f"{sequence!r} are {', '.join(map(str, ids))}. "
            "If that is intended, ignore unknown ids (--ignore-extra-ids)."
            + (f" {ONE_OBJECT_HINT}" if set(extra) == {VOID} else "")
        )


def _decode(masks: MaskCollection, folder: str, frame: str, rules: Rules) -> np.ndarray:
    data = masks.read_bytes(folder, frame)
    mask = plain_indices(data)
    where = f"{masks.path}: {folder}/{frame}.png"
    if rules.binary:
        if mask is None or has_soft_edges(mask):
            return decode_binary(data, where)
        return (mask != 0).view(np.uint8)
    if mask is None:
        mask = decode_mask(data, where, rgb=rules.rgb)
    refuse_soft_edges(mask, where)
    return mask


def plain_indices(data: bytes) -> np.ndarray | None:
    """Return the indices (H, W) uint8, read-only, of a plain 8-bit PNG; None for any other file.

    A damaged file gives None as well. We verify the checksums of the compressed chunks instead of
    that of the inflated data: as safe, and a hundred times fewer bytes.
    """
    header, stream = _chunks(data)
    if header is None or len(stream) < 7:
        return None
    width, height, depth, colour, *rest = _HEADER.unpack(header)
    if depth != 8 or colour not in (0, 3) or any(rest) or not 0 < width * height <= _LARGEST:
        return None
    if stream[0] & 15 != 8 or stream[1] & 32 or int.from_bytes(stream[:2], "big") % 31:
        return None
    size = (width + 1) * height
    try:
        if zlib.decompressobj(-15).decompress(stream[2:], 1) != b"\0":
            return None  # the first row is filtered: the rest need not be inflated
        inflater = zlib.decompressobj(-15)
        pixels = inflater.decompress(stream[2:], size)
    except zlib.error:
        return None
    if len(pixels) != size or not (inflater.eof or _ends(inflater)):
        return None
    rows = np.frombuffer(pixels, np.uint8).reshape(height, width + 1)
    return None if rows[:, 0].any() else rows[:, 1:]


def _ends(inflater: "zlib._Decompress") -> bool:
    """Return whether only the end of the stream is left after the last pixel."""
    return not inflater.decompress(inflater.unconsumed_tail, 1) and inflater.eof


def _chunks(data: bytes) -> tuple[bytes | None, bytes]:
    """Return the header and the joined compressed data of a PNG.

    (None, b"") for other files, truncated ones, and those that fail a checksum.
    """
    if data[:8] != _SIGNATURE:
        return None, b""
    header, parts, at = None, [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, body, end = data[at + 4 : at + 8], data[at + 8 : at + 8 + length], at + 12 + length
        if end > len(data):
            break
        if kind in (b"IHDR", b"IDAT"):
            if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(data[end - 4 : end], "big"):
                break
            if kind == b"IHDR":
                header = body if length == _HEADER.size else None
            else:
                parts.append(body)
        elif kind in _SPECIAL or (kind == b"PLTE" and body[:3] != b"\0\0\0"):
            break  # the general decoder looks at it
        elif kind == b"IEND":
            return header, b"".join(parts)
        at = end
    return None, b""
