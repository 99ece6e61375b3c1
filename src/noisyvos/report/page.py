"""One self-contained HTML page: pictures are embedded, and opening it fetches nothing."""

import base64
import re
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import pandas as pd
from PIL import Image

from noisyvos.io.atomic import write_text

_DOTS_SHOWN = 100  # CSS pixels per inch of a figure
_LONG = 34  # characters of a cell beyond which its column is wrapped
_NUMERIC = re.compile(r"[+\-−]?\d")
_FILLERS = ("", "-", "missing", "not printed")


@dataclass(frozen=True)
class Section:
    """A part of the page: a title, paragraphs of plain text, tables and pictures with captions."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[tuple[str, pd.DataFrame], ...] = ()
    pictures: tuple[tuple[str, Path], ...] = ()
    folded: bool = False
    anchor: str = field(default="")


def write_page(
    path: str | Path, *, title: str, subtitle: str, synthetic: bool, sections: list[Section]
) -> None:
    """Write the report page atomically."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("noisyvos.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    rendered = [
        {
            "title": section.title,
            "anchor": section.anchor or section.title.lower().replace(" ", "-"),
            "text": section.text,
            "folded": section.folded,
            "tables": [(caption, _rows(table)) for caption, table in section.tables],
            "pictures": [
                (caption, base64.b64encode(picture.read_bytes()).decode(), _shown_width(picture))
                for caption, picture in section.pictures
            ],
        }
        for section in sections
    ]
    write_text(
        path,
        environment.get_template("report.html.j2").render(
            title=title, subtitle=subtitle, synthetic=synthetic, sections=rendered
        ),
    )


def _shown_width(picture: Path) -> int:
    """Return the width in CSS pixels that gives text the same size in every figure."""
    with Image.open(picture) as image:
        return round(_DOTS_SHOWN * image.width / image.info.get("dpi", (_DOTS_SHOWN,))[0])


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
