"""Fast coding of the two commonest forms of picture files: 8-bit index PNGs and baseline JPEGs.

Pixels and bytes equal those of Pillow, in a fraction of its time. A decoder returns None for any
file beyond its one form, and for a damaged one; then Pillow reads the file or says what is wrong.
"""

import io
import struct
from collections.abc import Iterator
from functools import cache

import cv2
import numpy as np
from PIL import Image

try:  # several times as fast as Python's own zlib, and the streams have equal bytes
    from zlib_ng import zlib_ng as zlib
except ImportError:
    import zlib  # type: ignore[no-redef]

try:  # faster than OpenCV, and it tells of damage
    import simplejpeg
except ImportError:
    simplejpeg = None

_DAMAGED: type[Exception] = zlib.error  # type: ignore[assignment]
_MOST_PIXELS = 1 << 26  # of a picture that is read here; Pillow judges larger ones
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOURS = 768  # bytes of a whole palette
_GREY, _INDEXED = 0, 3  # PNG's colour types
_PILLOW_BLOCK = 65536  # bytes of an IDAT chunk at most, or four times the width


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def encode_index_png(indices: np.ndarray, palette: bytes) -> bytes:
    """Return indices (H, W) uint8 as PNG bytes with a palette of 256 RGB triples.

    Deflate matches runs of equal bytes only. The bytes are those of Pillow with
    `compress_type=Z_RLE`.
    """
    height, width = indices.shape
    rows = np.zeros((height, width + 1), np.uint8)  # PNG's filter 0 precedes each row
    rows[:, 1:] = indices
    packer = zlib.compressobj(6, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    stream = packer.compress(rows) + packer.flush()
    block = max(_PILLOW_BLOCK, 4 * width)
    parts = [stream[start : start + block] for start in range(0, len(stream), block)]
    head = struct.pack(">IIBBBBB", width, height, 8, _INDEXED, 0, 0, 0)
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", head),
            _chunk(b"PLTE", palette),
            *(_chunk(b"IDAT", part) for part in parts),
            _chunk(b"IEND", b""),
        )
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (kind, content) of each intact chunk of a PNG, the last of which ends the file."""
    place = len(_SIGNATURE)
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + 12 + length
        if end > len(data):
            return
        kind, content = data[place + 4 : place + 8], data[place + 8 : end - 4]
        if zlib.crc32(content, zlib.crc32(kind)) != struct.unpack_from(">I", data, end - 4)[0]:
            return
        if kind == b"IEND" and end != len(data):
            return
        yield kind, content
        place = end


def decode_index_png(data: bytes) -> tuple[np.ndarray, bytes] | None:
    """Return the values (H, W) uint8 of an 8-bit index or grey PNG and its palette.

    A grey PNG has an empty palette. The form: no interlacing, rows without a filter, a palette of
    256 colours, and no chunk that could change what the pixels mean.
    """
    if not data.startswith(_SIGNATURE):
        return None
    kinds: list[bytes] = []
    streams: list[bytes] = []
    head = palette = b""
    for kind, content in _chunks(data):
        if kind == b"IHDR":
            head = content
        elif kind == b"PLTE":
            palette = content
        elif kind == b"IDAT":
            streams.append(content)
        elif kind not in (b"tIME", b"IEND"):
            return None
        if kind != b"tIME" and kinds[-1:] != [kind]:
            kinds.append(kind)
    if len(head) != 13:
        return None
    width, height, *form = struct.unpack(">IIBBBBB", head)
    wanted = [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    if form == [8, _GREY, 0, 0, 0]:
        wanted.remove(b"PLTE")
    elif form != [8, _INDEXED, 0, 0, 0] or len(palette) != _COLOURS:
        return None
    if kinds != wanted or not 0 < width * height <= _MOST_PIXELS:
        return None
    unpacker, size = zlib.decompressobj(), height * (width + 1)
    try:
        stored = unpacker.decompress(b"".join(streams), size + 1)
    except _DAMAGED:
        return None
    if len(stored) != size or not unpacker.eof or unpacker.unused_data:
        return None
    rows = np.frombuffer(stored, np.uint8).reshape(height, width + 1)
    return None if rows[:, 0].any() else (rows[:, 1:].copy(), palette)


_FRAME, _SCAN, _RESTARTS, _COLOUR_PROFILE, _ADOBE = 0xC0, 0xDA, 0xDD, 0xE2, 0xEE
_TABLES = (0xC4, 0xDB, _RESTARTS, 0xE0, 0xFE)  # Huffman, quantisation, restarts, JFIF, comment
_SUBSAMPLINGS = (0x11, 0x21, 0x22)  # of the brightness, which `_agrees` has tried


def _is_plain_jpeg(data: bytes) -> bool:
    """Whether a JPEG is a whole baseline one of one scan in YCbCr, without an orientation."""
    place, framed, restarts = 2, False, False
    while data[place : place + 1] == b"\xff" and place + 4 <= len(data):
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        content = data[place + 4 : place + 2 + length]
        if marker == _FRAME:
            if framed or len(content) != 15 or content[0] != 8 or content[5] != 3:
                return False
            height, width = struct.unpack_from(">HH", content, 1)
            ids, samplings = content[6::3], content[7::3]
            if ids != b"\x01\x02\x03" or samplings[1:] != b"\x11\x11":
                return False
            if samplings[0] not in _SUBSAMPLINGS or not 0 < height * width <= _MOST_PIXELS:
                return False
            framed = True
        elif marker == _SCAN:
            start = place + 2 + length
            # among coded pixels 255 is followed by 0 or by a restart; one more marker is the end
            coded = np.frombuffer(data, np.uint8, offset=min(start, len(data)))
            found = (coded[:-1] == 0xFF) & (coded[1:] != 0)
            markers = np.count_nonzero(found) - 1
            if markers and restarts:
                markers -= np.count_nonzero(coded[1:][found] & 0xF8 == 0xD0)
            return framed and content[:1] == b"\x03" and not markers and data.endswith(b"\xff\xd9")
        elif marker == _ADOBE:
            if content[:5] != b"Adobe" or content[-1:] != b"\x01":
                return False
        elif marker == _COLOUR_PROFILE:
            if not content.startswith(b"ICC_PROFILE\0"):
                return False
        elif marker not in _TABLES:
            return False
        restarts = restarts or marker == _RESTARTS
        place += 2 + length
    return False


class DamagedJpeg(ValueError):
    """What libjpeg says of a JPEG that it decodes in spite of damage."""


def _decoded(data: bytes) -> np.ndarray | None:
    if simplejpeg is not None:
        try:
            pixels: np.ndarray = simplejpeg.decode_jpeg(data, "RGB")
        except ValueError as error:
            raise DamagedJpeg(str(error)) from None
        return pixels
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    picture: np.ndarray | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return picture


@cache
def _agrees() -> bool:
    """Whether the fast decoder gives the pixels of this build of Pillow.

    All use libjpeg-turbo with its exact transform, but a distribution may build one otherwise.
    """
    if simplejpeg is None and not hasattr(cv2, "IMREAD_COLOR_RGB"):
        return False
    noise = np.random.default_rng(0).integers(0, 256, (53, 83, 3), np.uint8)
    for subsampling in range(3):
        buffer = io.BytesIO()
        picture = Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 1 + subsampling))
        picture.save(buffer, "JPEG", quality=85, subsampling=subsampling)
        decoded = _decoded(buffer.getvalue())
        with Image.open(buffer) as image:
            if decoded is None or not np.array_equal(decoded, np.array(image)):
                return False
    return True


def decode_plain_jpeg(data: bytes) -> np.ndarray | None:
    """Return the pixels (H, W, 3) uint8 RGB of a whole baseline JPEG in YCbCr.

    The form: one scan, 8 bits, chroma of full size, halved in width, or halved in both directions,
    no EXIF or XMP data, nothing after the end. Raises DamagedJpeg where its coded pixels are
    damaged; OpenCV, which decodes without `simplejpeg`, only prints that.
    """
    if not (data.startswith(b"\xff\xd8") and _is_plain_jpeg(data) and _agrees()):
        return None
    return _decoded(data)
