"""The forms of the JSON files that one stage writes and another one reads.

`read_form` reads such a file and refuses, in a sentence, one that was damaged or edited: a key that
is missing, a value of another kind, a name that leads out of its folder. Keys beyond those of a
form may be there.
"""

import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from noisyvos.errors import UserError
from noisyvos.io.names import problem
from noisyvos.io.text import AGAIN, read_json
from noisyvos.limits import LONGEST_SIDE


def _plain(name: str) -> str:
    wrong = problem(name)
    if wrong is not None:
        raise ValueError(f"this name {wrong}")
    return name


def _once(names: list[str]) -> list[str]:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} is there twice")
    return names


Name = Annotated[str, AfterValidator(_plain)]
Names = Annotated[list[Name], AfterValidator(_once)]
Side = Annotated[int, Field(ge=1, le=LONGEST_SIDE)]
Id = Annotated[int, Field(ge=1, le=254)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Form(BaseModel):
    """Base class of all forms."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class VideoEntry(Form):
    """One video in the meta.json of a video dataset."""

    frames: Names = Field(min_length=1)
    masks: Names
    size: Annotated[list[Side], Field(min_length=2, max_length=2)]
    objects: list[Id]
    suffix: Annotated[str, Field(pattern=r"^\.[A-Za-z]{3,4}$")] = ".jpg"
    required: Names = []
    appears: dict[str, Name] = {}
    origin: Annotated[list[str], Field(min_length=2, max_length=2)] = ["", ""]
    repeat: Count = 1
    jump_divisor: Count = 1


class SettingsMade(Form):
    """The settings that made a dataset, in its meta.json: those that are read again."""

    source: str | None = None
    split: str | None = None
    size: int | None = None
    annotations: str = ""


class VideoMeta(Form):
    """meta.json of a video dataset."""

    kind: str
    name: str
    split: str | None = None
    sequences: dict[Name, VideoEntry]
    listed_objects: dict[str, list[int]] = {}
    shares: dict[str, float] = {}
    categories: dict[str, dict[str, Any]] = {}
    settings: SettingsMade = SettingsMade()


class ImagesMeta(Form):
    """meta.json of an image dataset."""

    kind: str
    name: str
    settings: SettingsMade = SettingsMade()
    folders: dict[str, int] = {}


class ClipsMeta(Form):
    """meta.json of the clips of `synth`."""

    kind: str
    clips: Annotated[int, Field(ge=1)]
    crop: Side
    shard: Annotated[int, Field(ge=1)]


class ImageEntry(Form):
    """One image in instances.json."""

    id: int
    file_name: Name
    height: Side
    width: Side
    repeat: Count = 1


class InstanceEntry(Form):
    """One instance in instances.json; `shapes_of` checks its `segmentation`."""

    id: int | float | str
    image_id: int
    segmentation: list[Any] | dict[str, Any]
    bbox: Annotated[list[float], Field(min_length=4, max_length=4)]
    iscrowd: Annotated[int, Field(ge=0, le=1)] = 0


class InstancesFile(Form):
    """instances.json of an image dataset."""

    images: list[ImageEntry] = Field(min_length=1)
    annotations: list[InstanceEntry]
    categories: list[Any] = []


class NoiseManifest(Form):
    """What `noise` writes beside the labels."""

    summary: dict[str, Any]
    left_out: list[str] = []  # videos that drawn labels do not cover


class Summary(Form):
    """The summary of a training."""

    noise: dict[str, Any] | None = None
    inputs: dict[str, str] = {}
    code: str = ""
    method: dict[str, Any] = {}
    model: dict[str, Any] = {}
    schedule: dict[str, Any] = {}


class Correction(Form):
    """What a relabelling training writes beside corrected labels."""

    bias: float
    fingerprint: str


class ScoreFacts(Form):
    """scores.json of `score`."""

    means: dict[str, Annotated[float, Field(ge=-1, le=1)] | None]

    @field_validator("means")
    @classmethod
    def _has_the_first(cls, means: dict[str, Any]) -> dict[str, Any]:
        if means.get("J&F-Mean") is None:
            raise ValueError("J&F-Mean is missing")
        return means


FORMS: dict[str, type[Form]] = {"video": VideoMeta, "images": ImagesMeta, "clips": ClipsMeta}


def check_form(content: Any, form: type[Form], path: object, again: str = AGAIN) -> None:
    """Raise UserError, which names the file `path`, unless `content` has the form."""
    try:
        form.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])[:120] or "the whole"
        raise UserError(
            f"{path}: this file is damaged: {place}: {first['msg'].removeprefix('Value error, ')}. "
            f"{again}"
        ) from None


def read_form(path: str | Path, form: type[Form], again: str = AGAIN) -> dict[str, Any]:
    """Return the content of a JSON file of a form; UserError or FileNotFoundError names the file.

    `again` tells how to make the file again.
    """
    content = read_json(path, again)
    check_form(content, form, path, again)
    return content


def read_instances_file(root: Path, again: str = "Convert the dataset again.") -> dict[str, Any]:
    """Return instances.json of the image dataset `root`; every instance belongs to an image."""
    path = root / "instances.json"
    content = read_form(path, InstancesFile, again)
    known = {image["id"] for image in content["images"]}
    for entry in content["annotations"]:
        if entry["image_id"] not in known:
            raise UserError(
                f"{path}: this file is damaged: instance {entry['id']} belongs to the image "
                f"{entry['image_id']}, which the file does not list. {again}"
            )
    return content


@contextmanager
def damaged(path: object, again: str = AGAIN) -> Iterator[None]:
    """Say of a content that turns out to be of another form that the file `path` is damaged.

    For what a form leaves open: the content of arrays and shapes.
    """
    try:
        yield
    except UserError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        EOFError,
        IndexError,
        KeyError,
        NotImplementedError,
        RecursionError,
        RuntimeError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        if "DefaultCPUAllocator" in str(error):
            raise
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else ""
        raise UserError(
            f"{path}: this file is damaged ({type(error).__name__}: {reason}). {again}"
        ) from None
