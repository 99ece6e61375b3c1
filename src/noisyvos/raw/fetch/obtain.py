"""All archives of a source: fetched several at a time, checked, unpacked and recorded."""

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from filelock import FileLock, Timeout
from tqdm import tqdm

from noisyvos.errors import UserError
from noisyvos.io.atomic import write_json
from noisyvos.raw.fetch.progress import Partial, Stopped, Watch
from noisyvos.raw.fetch.transfer import Damaged, Patience, Remote, expecting, fetch, verify
from noisyvos.raw.fetch.unpack import Limits, holds_only, merge, unpack

NOTES = ".unpacked"  # folder in the raw folder: a note for each archive that is unpacked there


@dataclass(frozen=True)
class Part:
    """A folder `root` of an archive (empty: all) whose content goes `into` the raw folder.

    With `zips`, every zip in it is unpacked too, into a folder of the zip's name below `into`.
    """

    root: str = ""
    into: str = ""
    zips: bool = False


@dataclass(frozen=True)
class Item:
    """One file of a source and what becomes of it."""

    name: str
    remote: Remote
    unpack: Literal["zip", "tar", "none"]
    parts: tuple[Part, ...] = (Part(),)


@dataclass(frozen=True)
class Places:
    """Where the files go, the archives they come from, and the record of what was fetched."""

    raw: Path
    archives: Path
    record: Path


@dataclass
class _Job:
    places: Places
    keep: bool
    patience: Patience
    limits: Limits
    watch: Watch = field(default_factory=Watch)


def is_started(raw: Path) -> bool:
    """Whether `obtain` has ever put something into the folder `raw`."""
    return (raw / NOTES).is_dir()


def is_complete(items: Sequence[Item], raw: Path) -> bool:
    """Whether every file that `obtain` unpacked from `items` is in `raw` at its full size."""
    return all(_is_unpacked(item, raw) for item in items)


def obtain(
    items: Sequence[Item],
    places: Places,
    *,
    workers: int = 4,
    keep: bool = True,
    patience: Patience | None = None,
    limits: Limits | None = None,
) -> None:
    """Bring the files of `items` into `places.raw`, `workers` archives at a time.

    Nothing that is there is fetched again. The size and sha256 of every archive are written to
    `places.record` the first time and required from then on. Archives stay in `places.archives` if
    `keep`. The function may be killed at any moment and run again. UserError says what cannot be
    fetched.
    """
    job = _Job(places, keep, patience or Patience(), limits or Limits())
    (places.raw / NOTES).mkdir(parents=True, exist_ok=True)
    places.archives.mkdir(parents=True, exist_ok=True)
    with (
        _alone(places.archives),
        tqdm(
            desc="download", unit="B", unit_scale=True, unit_divisor=1000, disable=None, total=0
        ) as bar,
    ):
        job.watch.bar = bar
        _clear_leftovers(places)
        wanted = [item for item in items if not _is_unpacked(item, places.raw)]
        for item in items:
            if not keep and item not in wanted:
                (places.archives / item.name).unlink(missing_ok=True)
        pool = ThreadPoolExecutor(max_workers=min(workers, max(1, len(wanted))))
        try:
            futures = [pool.submit(_obtain_one, item, job) for item in wanted]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            found = (future.exception() for future in futures if future in done)
            errors = [error for error in found if error is not None]
        finally:
            job.watch.stop.set()
            pool.shutdown(cancel_futures=True)
        for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):
            raise error


def _obtain_one(item: Item, job: _Job) -> None:
    archive = job.places.archives / item.name
    known = _known(job.places.record, item)
    try:
        if archive.is_file():
            Partial(archive).discard()
            facts = verify(archive, expecting(item.remote, known), str(archive))
        else:
            _announce(item.remote, known)
            facts = fetch(expecting(item.remote, known), archive, job.patience, job.watch)
    except Damaged as error:
        raise UserError(f"{error} {_advice(archive, known, job.places.record)}") from None
    with job.watch.lock:
        records = _read(job.places.record)
        if records.get(item.name) != {"url": item.remote.url, **facts}:
            write_json(job.places.record, records | {item.name: {"url": item.remote.url, **facts}})
    try:
        _put_in_place(item, archive, job)
    except UserError:
        if not known:  # a page in place of the archive must not become what is expected
            with job.watch.lock:
                records = _read(job.places.record)
                records.pop(item.name, None)
                write_json(job.places.record, records)
        raise
    if not job.keep:
        archive.unlink()


def _announce(remote: Remote, known: dict[str, Any]) -> None:
    """Say so if nothing protects a transfer: no encryption, no published sum, no earlier one."""
    if remote.url.lower().startswith("http:") and not (remote.md5 or remote.sha256 or known):
        print(
            f"noisyvos: warning: {remote.url} comes over http and without a published sum, so a "
            "change on its way would not be noticed. Compare the file with another copy if you "
            "can. Its sum is recorded, and later transfers must match it.",
            file=sys.stderr,
        )


def _advice(archive: Path, known: dict[str, Any], record: Path) -> str:
    if archive.is_file():
        return "Remove it to fetch it again."
    if known:
        return (
            "It was another one when it was first fetched; "
            f"if its publisher replaced it, remove its entry from {record}."
        )
    return "Check the address, the size and the sums in sources.yaml."


def _put_in_place(item: Item, archive: Path, job: _Job) -> None:
    """Unpack beside the final place, then rename what came out into it, then say so in a note."""
    raw = job.places.raw
    staging = raw / f".unpacking-{item.name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        sizes: dict[str, int] = {}
        for part in item.parts:
            out = staging / part.into
            out.mkdir(parents=True, exist_ok=True)
            found = _take_out(item, part, archive, out, job)
            sizes |= {
                (PurePosixPath(part.into) / name).as_posix(): size for name, size in found.items()
            }
        with job.watch.lock:  # two archives may share folders
            merge(staging, raw)
            write_json(_note(item, raw), _placement(item) | {"files": sizes})
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _take_out(item: Item, part: Part, archive: Path, out: Path, job: _Job) -> dict[str, int]:
    """Put the content of one part into the folder `out` and return the sizes of its files."""
    if item.unpack == "none":
        job.watch.check()
        if not item.name.endswith((".html", ".xml")) and _is_page(archive):
            raise UserError(
                f"{archive}: this file is a web page; the server sent it in place of the file, "
                "perhaps because of a quota or a login. Remove it to fetch it again."
            )
        shutil.copyfile(archive, out / item.name)
        return {item.name: archive.stat().st_size}
    sizes = unpack(
        archive, out, kind=item.unpack, root=part.root, limits=job.limits, tick=job.watch.check
    )
    inner = sorted(name for name in sizes if part.zips and name.lower().endswith(".zip"))
    for name in inner:
        stem = PurePosixPath(name).stem
        folder = out / stem
        folder.mkdir(exist_ok=True)
        root = stem if holds_only(out / name, stem) else ""
        found = unpack(
            out / name, folder, kind="zip", root=root, limits=job.limits, tick=job.watch.check
        )
        (out / name).unlink()
        sizes.pop(name)
        sizes |= {f"{stem}/{file}": size for file, size in found.items()}
    return sizes


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head"))


def _placement(item: Item) -> dict[str, Any]:
    return {
        "url": item.remote.url,
        "unpack": item.unpack,
        "parts": [asdict(part) for part in item.parts],
    }


def _note(item: Item, raw: Path) -> Path:
    return raw / NOTES / f"{item.name}.json"


def _is_unpacked(item: Item, raw: Path) -> bool:
    note = _read(_note(item, raw))
    if {key: note.get(key) for key in _placement(item)} != _placement(item):
        return False
    for name, size in note.get("files", {}).items():
        path = raw / name
        if not path.is_file() or path.stat().st_size != size:
            return False
    return True


def _clear_leftovers(places: Places) -> None:
    """Remove what a killed command was just writing."""
    for staging in places.raw.glob(".unpacking-*"):
        shutil.rmtree(staging, ignore_errors=True)
    for folder, pattern in (
        (places.raw / NOTES, ".*.tmp"),
        (places.archives, ".*.tmp"),
        (places.record.parent, f".{places.record.name}.*.tmp"),
    ):
        for file in folder.glob(pattern):
            file.unlink()


def _known(record: Path, item: Item) -> dict[str, Any]:
    """Return what was once fetched from this address; empty if nothing was."""
    known = _read(record).get(item.name, {})
    return known if known.get("url") == item.remote.url else {}


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError:
        raise UserError(
            f"{path}: this note is damaged. Remove it and run the command again."
        ) from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock the folder of archives against other commands; the lock of a killed one is free."""
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{folder}: another command is fetching into this folder. Wait for it or end it."
        ) from None
    try:
        yield
    finally:
        lock.release()
