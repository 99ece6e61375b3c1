"""The transfer of one file: continued after a break or a kill, retried, checked, then named."""

import errno
import hashlib
import http.client
import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tenacity import RetryCallState, Retrying, retry_if_exception_type

from noisyvos.errors import UserError
from noisyvos.raw.fetch.progress import Meter, Partial, Version, Watch
from noisyvos.raw.fetch.web import Interrupted, PastTheEnd, ask, broken

RESERVE = 64 * 2**20  # bytes of the disk that are never filled


@dataclass(frozen=True)
class Remote:
    """A file to fetch and what is known of it; sums are lower-case hexadecimal."""

    url: str
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Patience:
    """How long a transfer goes on: `tries` attempts in a row of less than `step` bytes end it."""

    tries: int = 8
    step: int = 2**20
    first_pause: float = 1.0  # seconds, doubled with every attempt
    longest_pause: float = 60.0
    longest_request: float = 600.0  # longest pause that a server may ask for
    timeout: float = 60.0  # seconds without a byte
    chunk: int = 2**18


class Damaged(UserError):
    """A file that is complete but not the expected one."""


def fetch(
    remote: Remote, target: Path, patience: Patience | None = None, watch: Watch | None = None
) -> dict[str, Any]:
    """Fetch `remote` to `target` and return its {size, sha256}.

    `target` appears only when complete and checked. A part that an earlier command left is
    continued if the server still has the same version and allows it. UserError says why a file
    cannot be fetched: refused, another length or sum than expected, too many breaks, no room.
    """
    patience, watch = patience or Patience(), watch or Watch()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial, meter = Partial(target), Meter(watch)
    in_pieces = _receive(remote, partial, patience, meter)
    try:
        facts = verify(partial.path, remote, remote.url)
    except Damaged:
        partial.discard()
        if not in_pieces:
            raise
        _receive(remote, partial, patience, meter)  # pieces may not fit: once more as a whole
        facts = verify(partial.path, remote, remote.url)
    partial.finish()
    return facts


def verify(path: Path, remote: Remote, name: str) -> dict[str, Any]:
    """Return {size, sha256} of a file; Damaged, with `name`, if it is not what `remote` states."""
    sums = {"sha256": hashlib.sha256()} | (
        {"md5": hashlib.md5(usedforsecurity=False)} if remote.md5 else {}
    )
    with path.open("rb") as file:
        while block := file.read(2**20):
            for total in sums.values():
                total.update(block)
        size = file.tell()
    if remote.size not in (None, size):
        raise Damaged(f"{name}: this file has {size} bytes, but {remote.size} are expected.")
    for kind, total in sums.items():
        if not total.hexdigest().startswith(getattr(remote, kind) or ""):
            raise Damaged(
                f"{name}: the {kind} of this file is {total.hexdigest()}, "
                f"but {getattr(remote, kind)} is expected."
            )
    return {"size": size, "sha256": sums["sha256"].hexdigest()}


def _receive(remote: Remote, partial: Partial, patience: Patience, meter: Meter) -> bool:
    """Bring all bytes into `partial`; return whether they came in more than one piece."""
    budget = _Budget(partial, patience)
    pieces = 0
    try:
        for attempt in Retrying(
            after=budget.count,
            wait=budget.pause,
            stop=budget.is_spent,
            retry=retry_if_exception_type(Interrupted),
            sleep=meter.watch.sleep,
            reraise=True,
        ):
            with attempt:
                pieces += 1 + (pieces == 0 and partial.version(remote.url) is not None)
                _transfer(remote, partial, patience, meter)
    except Interrupted as error:
        kept = (
            f" The {partial.size} bytes that arrived are kept: run the command again to go on."
            if partial.size
            else ""
        )
        raise UserError(f"{remote.url}: {error}, {budget.attempts} attempts.{kept}") from None
    return pieces > 1


def _transfer(remote: Remote, partial: Partial, patience: Patience, meter: Meter) -> None:
    """Ask once for what is missing and append it; Interrupted if the file is still incomplete."""
    version = partial.version(remote.url)
    if version is not None and partial.size == version.length:
        return  # killed between the last byte and the final name
    headers = {}
    if version is not None:
        headers["Range"] = f"bytes={partial.size}-"
        if version.etag or version.modified:
            headers["If-Range"] = version.etag or version.modified
    try:
        answer = ask(remote.url, headers, patience.timeout)
    except PastTheEnd:
        partial.discard()
        raise Interrupted("what has arrived is more than the server has now") from None
    with answer:
        start, length = _placement(answer, partial, version)
        _check_offer(remote, answer, length)
        if start == 0:
            partial.begin(Version.of(remote.url, answer.headers, length))
        _check_room(remote, partial.path, (length or remote.size or 0) - start)
        meter.place(start, length)
        _append(answer, partial, patience, meter)
    wanted = length if length is not None else remote.size
    if wanted is not None and partial.size < wanted:
        raise Interrupted(f"the connection ended after {partial.size} of {wanted} bytes")


def _placement(answer: Any, partial: Partial, version: Version | None) -> tuple[int, int | None]:
    """Return where in the file this answer starts, and the file's length if it is stated."""
    if answer.status == 206 and version is not None:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        total = int(found[2]) if found and found[2] != "*" else version.length
        same = version.length in (None, total) and version.etag in (
            "",
            answer.headers.get("ETag", version.etag),
        )
        if found is None or int(found[1]) != partial.size or not same:
            partial.discard()
            raise Interrupted("the file on the server is another one now")
        return partial.size, total
    length = answer.headers.get("Content-Length")
    return 0, int(length) if length is not None else None


def _check_offer(remote: Remote, answer: Any, length: int | None) -> None:
    """Refuse before the transfer a file that would be wrong at its end."""
    if None not in (remote.size, length) and length != remote.size:
        raise Damaged(
            f"{remote.url}: the server has a file of {length} bytes, "
            f"but {remote.size} are expected."
        )
    countable = (
        length is not None or answer.headers.get("Transfer-Encoding", "").lower() == "chunked"
    )
    if not countable and not (remote.size or remote.md5 or remote.sha256):
        raise UserError(
            f"{remote.url}: the server does not say how long this file is, "
            "and neither a size nor a sum of it is known."
        )


def _check_room(remote: Remote, path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed + RESERVE > free:
        raise UserError(
            f"{remote.url}: {needed / 1e9:.2f} GB are needed in {path.parent}, "
            f"but only {free / 1e9:.2f} GB are free."
        )


def _append(answer: Any, partial: Partial, patience: Patience, meter: Meter) -> None:
    try:
        with partial.path.open("ab") as file:
            while True:
                meter.watch.check()
                try:
                    block = answer.read(patience.chunk)
                except http.client.IncompleteRead as error:
                    file.write(error.partial)
                    meter.advance(len(error.partial))
                    raise broken(error) from None
                except (OSError, http.client.HTTPException) as error:
                    raise broken(error) from None
                if not block:
                    break
                file.write(block)
                meter.advance(len(block))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(
                f"{partial.path}: the disk is full. What has arrived is kept: "
                "make room and run the command again."
            ) from None
        raise


class _Budget:
    """Counts attempts in a row that bring little, and limits them, so every transfer ends."""

    def __init__(self, partial: Partial, patience: Patience) -> None:
        self.partial, self.patience = partial, patience
        self.best = partial.size
        self.idle = self.attempts = 0

    def count(self, _: RetryCallState) -> None:
        """Count an attempt that failed."""
        self.attempts += 1
        arrived = self.partial.size
        self.idle = 0 if arrived >= self.best + self.patience.step else self.idle + 1
        self.best = arrived if self.idle == 0 else self.best

    def is_spent(self, state: RetryCallState) -> bool:
        """Whether the attempt that just failed was the last one."""
        return self.idle >= self.patience.tries or _wish(state) > self.patience.longest_request

    def pause(self, state: RetryCallState) -> float:
        """Return the seconds to wait: what the server asks for, or a pause that doubles."""
        return max(
            _wish(state),
            min(
                self.patience.longest_pause, self.patience.first_pause * 2 ** max(0, self.idle - 1)
            ),
        )


def _wish(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return error.after if isinstance(error, Interrupted) else 0.0


def expecting(remote: Remote, known: dict[str, Any]) -> Remote:
    """Return `remote` with what an earlier transfer found where the settings state nothing."""
    recorded = str(known.get("sha256") or "")
    stated = remote.sha256 or ""  # may be its first digits
    return replace(
        remote,
        size=remote.size or known.get("size"),
        sha256=(recorded if recorded.startswith(stated) else stated) or None,
    )
