"""One self-contained HTML page: every picture is inside the file, nothing is fetched when it is opened."""

import base64
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import pandas as pd

from noisyvos.io.atomic import write_text


@dataclass(frozen=True)
class Section:
    """A part of the page: a title, paragraphs of plain text, tables and pictures with captions."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[tuple[str, pd.DataFrame], ...] = ()
    pictures: tuple[tuple[str, Path], ...] = ()
    folded: bool = False
    anchor: str = field(default="")


def write_page(path: str | Path, *, title: str, subtitle: str, synthetic: bool, sections: list[Section]) -> None:
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
            "pictures": [(caption, base64.b64encode(picture.read_bytes()).decode()) for caption, picture in section.pictures],
        }
        for section in sections
    ]
    write_text(
        path, environment.get_template("report.html.j2").render(title=title, subtitle=subtitle, synthetic=synthetic, sections=rendered)
    )


def _rows(table: pd.DataFrame) -> dict[str, list]:
    frame = table.reset_index() if table.index.name else table
    return {
        "head": [str(column) for column in frame.columns],
        "body": [[_text(value) for value in row] for row in frame.itertuples(index=False)],
    }


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return str(value)
