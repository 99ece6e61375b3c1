"""Stage `describe`: a contact sheet of a dataset or of clips, for a person to look at."""

from pathlib import Path

import cv2

from noisyvos.errors import UserError
from noisyvos.io.atomic import atomic_file
from noisyvos.media.contact_sheets import draw, strips_of


def run(dataset: Path, *, out: Path, sequences: int = 6) -> None:
    """Write a PNG of `sequences` evenly spread videos, images or clips under their masks."""
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: the sheet is a PNG. Give a name that ends in .png.")
    picture = draw(strips_of(dataset, sequences))
    with atomic_file(out) as temporary:
        temporary.write_bytes(cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes())
    print(f"{dataset}: contact sheet of {picture.shape[1]}x{picture.shape[0]} pixels in {out}")
