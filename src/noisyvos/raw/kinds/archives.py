"""Sources whose archives a program may fetch: files, checks, and where they are unpacked."""

import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from noisyvos.errors import UserError
from noisyvos.io.names import problem
from noisyvos.raw.base import SOURCES
from noisyvos.raw.fetch.obtain import Item, Part, Places, is_complete, is_started, obtain
from noisyvos.raw.fetch.transfer import Remote
from noisyvos.raw.fetch.web import SCHEMES
from noisyvos.raw.published import PublishedSettings, PublishedSource
from noisyvos.registry import Settings

TORCHVISION = "torchvision"  # scheme of entries of torchvision's weights
Unpack = Literal["zip", "tar", "none"]
_SUFFIXES: dict[str, Unpack] = {
    ".zip": "zip",
    ".tar": "tar",
    ".tgz": "tar",
    ".tar.gz": "tar",
    ".tar.bz2": "tar",
    ".tar.xz": "tar",
}


def _inside(value: str) -> str:
    if not value:
        return value
    wrong = problem(value)
    if wrong is not None:
        raise ValueError(f"a folder inside is needed, and this one {wrong}")
    parts = PurePosixPath(value).parts
    if any(part.startswith(".") for part in parts):
        raise ValueError("a folder inside is needed that is not hidden")
    return "/".join(parts)


Folder = Annotated[str, AfterValidator(_inside)]


class ArchivePart(Settings):
    """A folder of an archive and where its content goes."""

    root: Folder = Field(
        "", description="Only this folder of the archive is wanted; its content goes to `into`."
    )
    into: Folder = Field(
        "", description="Folder below the raw folder; by default the raw folder itself."
    )
    zips: bool = Field(
        False,
        description="Unpack every zip in it as well, into a folder of its name below `into`.",
    )


class ArchiveFile(ArchivePart):
    """One file to fetch.

    Give a size or a sum only as the publisher states it; others are recorded at the first transfer.
    """

    url: str = Field(
        description="Address, or torchvision:WEIGHTS for an entry of torchvision's weights, "
        "such as torchvision:ResNet50_Weights.IMAGENET1K_V1, which brings its address and sum."
    )
    name: str = Field("", description="Name it is kept under; by default the last part of the url.")
    size: int | None = Field(None, gt=0, description="Bytes.")
    md5: str | None = Field(None, pattern="^[0-9a-f]{32}$", description="Published MD5 sum.")
    sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{8,64}$",
        description="Published SHA-256 sum, or its first "
        "digits. Without it the first transfer records a sum, and later ones must match it.",
    )
    about: str = Field("", description="What the archive holds.")
    unpack: Unpack | None = Field(None, description="By default after the end of the name.")
    parts: tuple[ArchivePart, ...] = Field(
        (), description="Several folders, in place of `root`, `into` and `zips`."
    )

    @field_validator("url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if urlsplit(value).scheme not in (*SCHEMES, TORCHVISION):
            raise ValueError("an http, https or file address is needed, or torchvision:WEIGHTS")
        return value

    @model_validator(mode="after")
    def _has_name(self) -> "ArchiveFile":
        if urlsplit(self.url).scheme == TORCHVISION and not self.name:
            raise ValueError("an entry of torchvision needs `name`, the file it is kept as")
        if not re.fullmatch(r"[\w()+-][\w.()+-]*", self.file_name):
            raise ValueError("the url does not end in a file name: give `name`")
        if self.parts and (self.root or self.into or self.zips):
            raise ValueError(
                "`parts` is given, so `root`, `into` and `zips` belong into its entries"
            )
        return self

    @property
    def file_name(self) -> str:
        """Name of the archive on disk."""
        return self.name or unquote(PurePosixPath(urlsplit(self.url).path).name)

    def item(self) -> Item:
        """Return what the engine needs to fetch and unpack this file."""
        name = self.file_name.lower()
        by_name = [kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix)]
        kind: Unpack = self.unpack or (by_name[0] if by_name else "none")
        parts = tuple(Part(part.root, part.into, part.zips) for part in (self.parts or (self,)))
        url, sha256 = _published(self.url, self.sha256)
        return Item(self.file_name, Remote(url, self.size, self.md5, sha256), kind, parts)


def _published(url: str, sha256: str | None) -> tuple[str, str | None]:
    """Return the address of a file and the first digits of its sum, as torchvision states them."""
    if urlsplit(url).scheme != TORCHVISION:
        return url, sha256
    from torchvision.models import get_weight

    name = urlsplit(url).path
    try:
        address = str(get_weight(name).url)
    except (ValueError, KeyError, AttributeError):
        raise UserError(f"torchvision has no weights {name!r}. Correct the source's url.") from None
    digits = re.search(r"-([0-9a-f]{8,64})\.pth$", address)
    return address, sha256 or (digits[1] if digits else None)


class ArchiveSettings(PublishedSettings):
    """Settings of `archives`: the files, and what of them is wanted below the raw folder."""

    files: tuple[ArchiveFile, ...] = Field(min_length=1, description="The archives to fetch.")
    keep_archives: bool = Field(True, description="Keep the archives after unpacking.")

    @model_validator(mode="after")
    def _names_differ(self) -> "ArchiveSettings":
        names = [file.file_name for file in self.files]
        if len(set(names)) < len(names):
            raise ValueError("two of the files have one name: give `name`")
        return self


@SOURCES.register("archives", ArchiveSettings)
class ArchiveSource(PublishedSource):
    """Published archives; a link to a folder that already holds their content will do as well."""

    settings: ArchiveSettings

    def is_here(self, raw: Path) -> bool:
        """Whether nothing has to be fetched: all was unpacked, or a person put it in place."""
        if is_started(raw):
            return is_complete(self._items(), raw)
        return not self.missing(raw)

    def is_fetched(self, raw: Path) -> bool:
        """Whether the files in `raw` were fetched, even in part, not put there by a person."""
        return is_started(raw)

    def fetch(self, places: Places, workers: int) -> None:
        """Fetch and unpack what is not there yet; see `noisyvos.raw.fetch.obtain.obtain`."""
        obtain(self._items(), places, workers=workers, keep=self.settings.keep_archives)

    def offer(self) -> list[str]:
        """Return what would be fetched and under which terms, over several lines."""
        files = [
            f"  {file.url}{f'  ({file.about})' if file.about else ''}"
            for file in self.settings.files
        ]
        return [*self.settings.lines(), "Files:", *files]

    def _items(self) -> list[Item]:
        return [file.item() for file in self.settings.files]
