"""Checking and packing zips of masks for the servers of DAVIS and YouTube-VOS.

A submission has every required frame at its original size, as a palette PNG that holds only ids of
the video's objects, under <sequence>/<frame>.png. DAVIS accepts no folder around the sequences. The
published packing for YouTube-VOS has one, Annotations/, which is optional here.
"""

import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from noisyvos.datasets.layout import Sequence, VideoDataset
from noisyvos.errors import UserError, unknown_name
from noisyvos.io.files import check_regular
from noisyvos.io.mask_reader import open_mask
from noisyvos.io.masks import MaskCollection, write_mask_zip

RULES = {"davis": "", "youtube_vos": "Annotations/"}  # name: folder around the sequences


def problems(path: Path, dataset: VideoDataset, rules: str) -> list[str]:
    """Return a sentence for each entry that a server would refuse or ignore; empty if none.

    UserError if the rules are unknown, the file is not a zip, or `dataset` is not fit for them.
    """
    _check_dataset(dataset, rules)
    check_regular(path, "zip")
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path}: not a readable zip. Servers take a zip with <sequence>/<frame>.png."
        )
    with zipfile.ZipFile(path) as archive:
        entries = [name for name in archive.namelist() if not name.endswith("/")]
        prefix, found = _outer_folder(entries, dataset, rules)
        if prefix is None:
            return found
        wanted = {
            f"{prefix}{sequence.name}/{frame}.png": sequence
            for sequence in dataset.sequences.values()
            for frame in wanted_frames(sequence)
        }
        found += [f"{name}: there twice" for name, count in Counter(entries).items() if count > 1]
        found += [f"{name}: not asked for" for name in sorted(set(entries) - set(wanted))]
        found += _missing(set(wanted) - set(entries), dataset, prefix)
        present = set(entries)
        for name, sequence in wanted.items():
            if name in present:
                found += _mask_problems(archive, name, sequence)
    return found


def pack(path: Path, dataset: VideoDataset, rules: str, out: Path) -> None:
    """Write the masks that the server requires to `out`, in the folder it usually expects."""
    _check_dataset(dataset, rules)
    with MaskCollection(path) as masks:
        names = masks.sequences()
        inner = (
            RULES[rules] if names and all(name.startswith(RULES[rules]) for name in names) else ""
        )

        def chosen() -> Iterator[tuple[str, str, bytes]]:
            for sequence in dataset.sequences.values():
                for frame in wanted_frames(sequence):
                    yield (
                        RULES[rules] + sequence.name,
                        frame,
                        masks.read_bytes(inner + sequence.name, frame),
                    )

        write_mask_zip(out, chosen())


def wanted_frames(sequence: Sequence) -> tuple[str, ...]:
    """Return the frames that a server requires, sorted: those the benchmark lists, or all."""
    return tuple(sorted(sequence.frames if sequence.required is None else sequence.required))


def _check_dataset(dataset: VideoDataset, rules: str) -> None:
    if rules not in RULES:
        raise unknown_name("rules", rules, RULES)
    size = dataset.meta.get("settings", {}).get("size")
    if size is not None:
        raise UserError(
            f"{dataset.root}: this dataset was reduced (size: {size}), but servers require "
            "original sizes. Convert it without `size`."
        )
    unlisted = [
        sequence.name for sequence in dataset.sequences.values() if sequence.required is None
    ]
    if rules == "youtube_vos" and unlisted:
        raise UserError(
            f"{dataset.root}: {unlisted[0]} has no list of wanted frames, so this is not an "
            "evaluation set of YouTube-VOS. Convert its valid or test split."
        )


def _outer_folder(
    entries: list[str], dataset: VideoDataset, rules: str
) -> tuple[str | None, list[str]]:
    """Return the folder around the sequences and what is wrong with it.

    The folder is "" or "name/"; None if the sequences cannot be found.
    """
    if not entries:
        return None, ["the zip is empty"]
    heads = {name.split("/", 1)[0] for name in entries}
    head = next(iter(heads))
    known = {name.split("/", 1)[0] for name in dataset.sequences}
    if len(heads) > 1 or head in known:
        return "", []
    if f"{head}/" == RULES[rules]:
        return RULES[rules], []
    if all("/" not in name for name in entries):
        return "", []
    return None, [
        f"{head}/: a folder around the sequences, which the server does not open; "
        "pack the sequence folders themselves"
    ]


def _missing(names: set[str], dataset: VideoDataset, prefix: str) -> list[str]:
    """Return a sentence for each missing frame, or one for a sequence without any frame."""
    found = []
    for sequence in dataset.sequences.values():
        lacking = sorted(
            name
            for frame in wanted_frames(sequence)
            if (name := f"{prefix}{sequence.name}/{frame}.png") in names
        )
        if lacking and len(lacking) == len(wanted_frames(sequence)):
            found.append(
                f"{prefix}{sequence.name}/: the whole sequence is missing ({len(lacking)} frames)"
            )
        else:
            found += [f"{name}: missing" for name in lacking]
    return found


def _mask_problems(archive: zipfile.ZipFile, name: str, sequence: Sequence) -> list[str]:
    try:
        stored = open_mask(archive.read(name), name)
    except (UserError, OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        return [f"{name}: cannot be read ({why})"]
    if stored.format != "PNG" or stored.mode != "P":
        return [f"{name}: {stored.format} of mode {stored.mode}; a palette PNG is wanted"]
    height, width = stored.values.shape
    if (height, width) != sequence.size:
        return [
            f"{name}: {width}x{height}; the frames are "
            f"{sequence.size[1]}x{sequence.size[0]} (width x height)"
        ]
    foreign = sorted(set(np.unique(stored.values).tolist()) - {0, *sequence.objects})
    if foreign:
        return [f"{name}: ids {', '.join(map(str, foreign))} are no objects of the video"]
    return []
