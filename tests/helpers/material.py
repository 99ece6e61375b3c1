"""Made masks and frames in the forms in which people have them, and what each command reads."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from PIL import Image

from noisyvos.datasets.check import Findings, check_dataset
from noisyvos.errors import UserError
from noisyvos.io.mask_rules import davis_palette
from noisyvos.io.masks import MaskCollection, encode_mask
from noisyvos.media.videos import open_video
from noisyvos.metrics import score
from noisyvos.metrics.protocols import Rules, ScoredVideo
from noisyvos.metrics.reading import read_truth
from noisyvos.stages import convert
from noisyvos.stages.segment import read_masks
from noisyvos.synth.instances import fill, read_instances

HEIGHT, WIDTH = 48, 64
IDS = np.zeros((HEIGHT, WIDTH), np.uint8)
IDS[8:24, 6:26] = 1
IDS[28:44, 34:58] = 2
ONE = (IDS > 0).astype(np.uint8)
SOFT = cv2.GaussianBlur(ONE * 255, (0, 0), 1.5)
BRIGHT = np.array([(0, 0, 0), (0, 60, 255), (255, 0, 0)], np.uint8)  # colours of no known map


def png(image: Image.Image | np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    """Return a picture as the bytes of a file."""
    buffer = io.BytesIO()
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def palette(mask: np.ndarray, colours: Sequence[Sequence[int]] | None = None, **options: Any):
    """Return a palette PNG of a mask; the colours are those of DAVIS by default."""
    image = Image.fromarray(mask)
    image.putpalette(np.asarray(davis_palette() if colours is None else colours).ravel().tolist())
    return png(image, **options)


def alpha(pixels: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Return pixels with an alpha channel."""
    return np.dstack([pixels, opacity])


def oriented(number: int) -> Image.Exif:
    """Return EXIF data with an orientation."""
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def with_alpha(mask: np.ndarray, opacity: np.ndarray) -> bytes:
    """Return a grey PNG with an alpha channel."""
    return png(Image.merge("LA", (Image.fromarray(mask), Image.fromarray(opacity))))


FULL = np.full((HEIGHT, WIDTH), 255, np.uint8)
DAVIS = davis_palette()
# the rows of the table in docs/reference/material.md
FORMS: dict[str, bytes] = {
    "palette PNG": encode_mask(IDS),
    "palette PNG of 2 or 4 bits": palette(IDS, bits=2),
    "grey PNG, values are ids": png(IDS),
    "grey PNG of 1 bit": png(ONE.astype(bool)),
    "grey PNG, opaque alpha": with_alpha(IDS, FULL),
    "16-bit PNG, ids up to 255": png(IDS.astype(np.uint16)),
    "16-bit PNG, 8-bit ids spread (times 257)": png(IDS.astype(np.uint16) * 257),
    "16-bit PNG, larger ids": png(IDS.astype(np.uint16) * 1000),
    "RGB, grey values are ids": png(np.dstack([IDS] * 3)),
    "RGB, colours of DAVIS": png(DAVIS[IDS]),
    "RGBA, colours of DAVIS, transparent background": png(alpha(DAVIS[IDS], ONE * 255)),
    "RGB, other colours": png(BRIGHT[IDS]),
    "RGB, colours with soft edges": png(cv2.GaussianBlur(BRIGHT[IDS], (0, 0), 1.5)),
    "RGB without black": png(np.maximum(BRIGHT, 9)[IDS]),
    "0 and 255": png(ONE * 255),
    "0 and 255 in RGB": png(np.dstack([ONE * 255] * 3)),
    "0 and 65535 (16 bits)": png(ONE.astype(np.uint16) * 65535),
    "grey levels of soft edges": png(SOFT),
    "soft edges under a palette": palette(SOFT),
    "half transparent pixels": png(alpha(np.dstack([ONE * 255] * 3), SOFT)),
    "JPEG data named .png": png(ONE * 255, "JPEG", quality=92),
    "palette whose black is not 0": palette(IDS, [(9, 9, 9), (0, 0, 0), (200, 0, 0)]),
    "transparent index that is not 0": palette(IDS, transparency=1),
    "EXIF orientation": png(IDS, exif=oriented(3)),
    "several pictures in one file": png(
        Image.fromarray(IDS), save_all=True, append_images=[Image.fromarray(ONE)]
    ),
    "truncated": encode_mask(IDS)[:-30],
}


def folder(root: Path, masks: Sequence[bytes] | bytes, sequence: str = "car") -> Path:
    """Write a DAVIS-style folder with a mask for each of at least three frames; return it."""
    files = [masks] * 3 if isinstance(masks, bytes) else list(masks)
    for t, data in enumerate(files):
        for name, content in {
            f"JPEGImages/{sequence}/{t:05d}.jpg": FRAME,
            f"Annotations/{sequence}/{t:05d}.png": data,
        }.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
    return root


FRAME = png(np.dstack([ONE * 200] * 3), "JPEG")


def converted(raw: Path, **settings: Any) -> Path:
    """Convert a raw folder and return the dataset; kind `folder` by default."""
    params = raw.parent / f"{raw.name}-params"
    params.mkdir(exist_ok=True)
    entry = {"kind": "folder", "source": "own"} | settings
    (params / "datasets.yaml").write_text(yaml.safe_dump({"d": entry}))
    out = raw.parent / f"{raw.name}-out"
    convert.run("d", raw=raw, out=out, params=params)
    return out


def convert_reads(raw: Path, **settings: Any) -> np.ndarray:
    """Return the masks that `convert` makes of the video, (T, H, W)."""
    with MaskCollection(converted(raw, **settings) / "masks") as masks:
        return np.stack([masks.read("car", frame) for frame in masks.frames("car")])


def segment_reads(raw: Path, one_object: bool = False) -> np.ndarray:
    """Return the masks that `segment` would start from, (T, H, W)."""
    video = open_video(raw / "JPEGImages" / "car")
    masks = read_masks(raw / "Annotations" / "car", video, one_object)
    return np.stack([masks[index] for index in sorted(masks)])


def score_reads(raw: Path, binary: bool = False, rgb: bool = False) -> np.ndarray:
    """Return the true masks that `score` reads, (T, H, W); scored against themselves."""
    scores = score(raw / "Annotations", raw / "Annotations", "all_frames", binary=binary, rgb=rgb)
    assert scores.means["J&F-Mean"] == 1
    with MaskCollection(raw / "Annotations") as masks:
        frames = masks.frames("car")
        video = ScoredVideo("car", "car", "car", frames, frames)
        rules = Rules(binary=binary, rgb=rgb)
        return np.stack([read_truth(masks, video, frame, rules) for frame in frames])


def static_reads(raw: Path, threshold: int | None) -> np.ndarray:
    """Return the mask that kind `static` makes of one image, (1, H, W)."""
    folders = [{"images": "JPEGImages/car", "masks": "Annotations/car"}]
    out = converted(raw, kind="static", folders=folders, threshold=threshold)
    instances = read_instances(out)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number, instance in enumerate(instances.in_image(0), 1):
        mask[fill(instances.shape(instance), (0, 0, WIDTH, HEIGHT)) > 0] = number
    return mask[None]


def checked(raw: Path, one_object: bool = False) -> Findings:
    """Return what `check` says of a raw folder."""
    return check_dataset(raw, one_object=one_object)


def refusal(findings: Findings) -> str:
    """Return the sentence that `check` says `convert` would refuse with; empty if none."""
    known = ("refused by convert", "unreadable mask")
    return next((found.where for found in findings.problems if found.what in known), "")


def outcome(read: Any, raw: Path, **options: Any) -> str:
    """Return in a word what a command makes of the masks of a folder."""
    try:
        mask = read(raw, **options)[0]
    except (UserError, FileNotFoundError):
        return "refused"
    known: Mapping[str, np.ndarray] = {
        "ids": IDS,
        "one object": ONE,
        "one object (128 on)": (SOFT >= 128).astype(np.uint8),
    }
    if len(np.unique(mask)) > 10:
        return "every level, with a warning"
    return next((word for word, wanted in known.items() if np.array_equal(mask, wanted)), "WRONG")
