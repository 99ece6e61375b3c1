"""One self-contained HTML page: pictures are embedded, and opening it fetches nothing."""

import base64
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from PIL import Image

from noisyvos.io.atomic import write_text
from noisyvos.io.text import read_json
from noisyvos.report.players import webp

_DOTS_SHOWN = 100  # CSS pixels per inch of a figure
_LONG = 34  # characters of a cell beyond which its column is wrapped
_LARGEST_SVG = 400_000  # bytes; a larger drawing is embedded as pixels
_QUALITY = 82  # of embedded pictures, WebP
_NUMERIC = re.compile(r"[+\-−]?\d")
_FILLERS = ("", "-", "missing", "not printed")
_NAMES = {".csv": "CSV", ".md": "Markdown", ".tex": "LaTeX"}
# A drawing as SVG follows the reader's light or dark colours; matplotlib writes them inline.
_DARK = """<style>@media (prefers-color-scheme: dark) {
svg { fill: #e6e9ee }
[style*="stroke: #000000"] { stroke: #e6e9ee !important }
[style*="fill: #000000"] { fill: #e6e9ee !important }
[style*="fill: #ffffff"] { fill: none !important }
[style*="stroke: #595959"] { stroke: #aab4c0 !important }
[style*="stroke: #e6e6e6"], [style*="stroke: #e5e5e5"] { stroke: #39424d !important }
[style*="stroke: #0072b2"] { stroke: #4ba3e3 !important }
[style*="fill: #0072b2"] { fill: #4ba3e3 !important }
}</style>"""


@dataclass(frozen=True)
class Table:
    """A table with its caption and the files that hold it, which the page links to."""

    caption: str
    frame: pd.DataFrame
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A figure: its PNG, and beside it perhaps the same as SVG, PDF and CSV.

    alt: what a reader who cannot see it is told.
    """

    caption: str
    path: Path
    alt: str


@dataclass(frozen=True)
class Player:
    """A video to be played: the data of `players.player` in a file, and a sheet as PNG beside."""

    path: Path


Part = str | Table | Picture | Player  # a string is a paragraph of plain text


@dataclass(frozen=True)
class Section:
    """A part of the page: a title, and what it shows in order. Nothing to show: it is left out."""

    title: str
    parts: tuple[Part, ...] = ()
    folded: bool = False
    anchor: str = field(default="")

    @property
    def shows(self) -> bool:
        """Whether there is anything but text."""
        return any(not isinstance(part, str) for part in self.parts)


def write_page(
    path: str | Path,
    *,
    title: str,
    subtitle: str,
    synthetic: bool,
    found: list[str],
    sections: list[Section],
) -> None:
    """Write the report page atomically. found: sentences that open it."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("noisyvos.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    folder = Path(path).parent
    rendered = [
        {
            "title": section.title,
            "anchor": section.anchor or section.title.lower().replace(" ", "-"),
            "folded": section.folded,
            "parts": [_rendered(part, folder) for part in section.parts],
        }
        for section in sections
    ]
    write_text(
        path,
        environment.get_template("report.html.j2").render(
            title=title, subtitle=subtitle, synthetic=synthetic, found=found, sections=rendered
        ),
    )


def _rendered(part: Part, folder: Path) -> dict[str, Any]:
    """Return a part as the template takes it. folder: that of the page, from which links go."""
    if isinstance(part, str):
        return {"kind": "text", "text": part}
    if isinstance(part, Table):
        return {
            "kind": "table",
            "caption": part.caption,
            "table": _rows(part.frame),
            "links": _links(part.files, folder),
        }
    if isinstance(part, Picture):
        files = [part.path.with_suffix(kind) for kind in (".svg", ".pdf", ".png", ".csv")]
        return {
            "kind": "picture",
            "caption": part.caption,
            "alt": part.alt,
            "source": _embedded(part.path),
            "size": _shown_size(part.path),
            "drawing": files[0].is_file(),
            "links": _links(files, folder),
        }
    data = read_json(part.path)
    # the frames are in the style of the player; an opening bracket is an escape, so that no text
    # can end the element it is in
    drawn = {name: value for name, value in data.items() if name != "strip"}
    text = json.dumps(drawn, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return {
        "kind": "player",
        "data": data,
        "json": text,
        "middle": len(data["frames"]) // 2,
        "links": _links([part.path.with_suffix(".png")], folder),
    }


def _links(files: Iterable[Path], folder: Path) -> list[tuple[str, str]]:
    """Return (name of the format, address relative to the page) of the files that exist."""
    return [
        (
            _NAMES.get(file.suffix, file.suffix[1:].upper()),
            Path(os.path.relpath(file, folder)).as_posix(),
        )
        for file in files
        if file.is_file()
    ]


def _embedded(picture: Path) -> str:
    """Return a picture as a data address: its SVG if that is small enough, else WebP."""
    drawing = picture.with_suffix(".svg")
    if drawing.is_file() and drawing.stat().st_size <= _LARGEST_SVG:
        text = drawing.read_text(encoding="utf-8")
        head, end, rest = text.partition("<defs>")
        text = f"{head}{_DARK}{end}{rest}"
        return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()
    with Image.open(picture) as image:
        return "data:image/webp;base64," + webp(image, _QUALITY)


def _shown_size(picture: Path) -> tuple[int, int]:
    """Return width and height in CSS pixels that give text the same size in every figure."""
    with Image.open(picture) as image:
        scale = _DOTS_SHOWN / image.info.get("dpi", (_DOTS_SHOWN,))[0]
        return round(scale * image.width), round(scale * image.height)


def _rows(table: pd.DataFrame) -> dict[str, list]:
    """Return head and body of a table as text, and the style of each column."""
    frame = table.reset_index() if table.index.name else table
    body = [[_text(value) for value in row] for row in frame.itertuples(index=False)]
    columns = [list(column) for column in zip(*body)] if body else [[] for _ in frame.columns]
    return {
        "head": [str(column) for column in frame.columns],
        "body": body,
        "style": [_style(column) for column in columns],
    }


def _style(column: list[str]) -> str:
    if all(text in _FILLERS or _NUMERIC.match(text) for text in column):
        return "number"
    return "words long" if max(map(len, column)) > _LONG else "words"


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return str(value)
