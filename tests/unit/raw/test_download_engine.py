"""One file from a real server on loopback.

What is fetched, continued, tried again, refused, and what is left on disk.
"""

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "helpers"))
from loopback import Site, serve

from noisyvos.errors import UserError
from noisyvos.raw.fetch import transfer
from noisyvos.raw.fetch.progress import Partial, Version
from noisyvos.raw.fetch.transfer import Damaged, Patience, Remote, fetch

BODY = bytes(range(256)) * 1200
FAST = Patience(tries=4, step=1, first_pause=0.001, longest_pause=0.01, timeout=5, chunk=2**14)
IDLE = replace(FAST, step=10**9)  # no attempt counts as progress


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as running:
        yield running


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def left(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_good_server(site: Site, tmp_path: Path) -> None:
    remote = Remote(site.url("a.bin", BODY), len(BODY), hashlib.md5(BODY).hexdigest(), sha256(BODY))
    assert fetch(remote, tmp_path / "in" / "a.bin", FAST) == {
        "size": len(BODY),
        "sha256": sha256(BODY),
    }
    assert (tmp_path / "in" / "a.bin").read_bytes() == BODY
    assert left(tmp_path / "in") == ["a.bin"]
    assert site.requests.total() == 1


def test_empty_file(site: Site, tmp_path: Path) -> None:
    assert fetch(Remote(site.url("empty", b"")), tmp_path / "a", FAST)["size"] == 0
    assert left(tmp_path) == ["a"]


def test_local_file(tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(BODY)
    fetch(Remote((tmp_path / "from").as_uri()), tmp_path / "to", FAST)
    assert (tmp_path / "to").read_bytes() == BODY
    with pytest.raises(UserError, match="gone: this file cannot be read"):
        fetch(Remote((tmp_path / "gone").as_uri()), tmp_path / "other", FAST)


@pytest.mark.parametrize("resets", [False, True])
def test_cut_off_answers_are_continued_where_they_ended(
    site: Site, tmp_path: Path, resets: bool
) -> None:
    url = site.url("a.bin", BODY, breaks_after=50_000, breaks=4, resets=resets)
    fetch(Remote(url), tmp_path / "a.bin", FAST)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.requests.total() == 5
    if not resets:  # a reset may swallow bytes that were sent
        assert site.ranges == [f"bytes={50_000 * count}-" for count in (1, 2, 3, 4)]


def test_many_breaks_are_no_failure_as_long_as_there_is_progress(
    site: Site, tmp_path: Path
) -> None:
    fetch(Remote(site.url("a.bin", BODY, breaks_after=10_000)), tmp_path / "a.bin", FAST)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.requests.total() == len(BODY) // 10_000 + 1


def test_without_ranges_it_starts_again(site: Site, tmp_path: Path) -> None:
    url = site.url("a.bin", BODY, ranges=False, breaks_after=100_000, breaks=2)
    fetch(Remote(url), tmp_path / "a.bin", FAST)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.requests.total() == 3


def test_attempts_without_progress_are_limited_and_the_part_is_kept(
    site: Site, tmp_path: Path
) -> None:
    url = site.url("a.bin", BODY, ranges=False, breaks_after=100_000)
    with pytest.raises(
        UserError,
        match=(
            r"ended after 100000 of 307200 bytes, 5 attempts. The 100000 bytes that arrived are "
            r"kept"
        ),
    ):
        fetch(Remote(url), tmp_path / "a.bin", FAST)
    assert site.requests.total() == 5  # the first made progress, the four after it none
    assert left(tmp_path) == ["a.bin.part", "a.bin.part.json"]


def test_length_that_the_server_never_delivers(site: Site, tmp_path: Path) -> None:
    url = site.url("a.bin", BODY, claims=len(BODY) + 5)
    with pytest.raises(UserError, match="attempts"):
        fetch(Remote(url), tmp_path / "a.bin", IDLE)
    assert site.requests.total() == IDLE.tries
    assert not (tmp_path / "a.bin").exists()


def test_part_of_an_earlier_command_is_continued(site: Site, tmp_path: Path) -> None:
    url = site.url("a.bin", BODY)
    partial = Partial(tmp_path / "a.bin")
    partial.begin(Version(url, len(BODY), '"v1"'))
    partial.path.write_bytes(BODY[:200_000])
    fetch(Remote(url), tmp_path / "a.bin", FAST)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.ranges == ["bytes=200000-"]
    assert left(tmp_path) == ["a.bin"]


def test_complete_part_needs_no_request(site: Site, tmp_path: Path) -> None:
    partial = Partial(tmp_path / "a.bin")
    partial.begin(Version(site.url("a.bin"), len(BODY), '"v1"'))
    partial.path.write_bytes(BODY)
    fetch(Remote(site.url("a.bin")), tmp_path / "a.bin", FAST)
    assert site.requests.total() == 0
    assert left(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("etag", ['"v2"', ""])
def test_part_of_another_version_is_dropped(site: Site, tmp_path: Path, etag: str) -> None:
    url = site.url("a.bin", BODY, etag=etag)
    partial = Partial(tmp_path / "a.bin")
    partial.begin(Version(url, len(BODY) + 7, '"v1"' if etag else ""))
    partial.path.write_bytes(b"old" * 1000)
    fetch(Remote(url), tmp_path / "a.bin", FAST)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_part_longer_than_the_file_is_dropped(site: Site, tmp_path: Path) -> None:
    url = site.url("a.bin", BODY)
    partial = Partial(tmp_path / "a.bin")
    partial.begin(Version(url, len(BODY) * 2, '"v1"'))
    partial.path.write_bytes(BODY + b"more")
    fetch(Remote(url), tmp_path / "a.bin", FAST)
    assert (tmp_path / "a.bin").read_bytes() == BODY


@pytest.mark.parametrize("note", [None, "{", '{"url": "http://other/a.bin"}', "[]"])
def test_part_without_a_fitting_note_is_dropped(
    site: Site, tmp_path: Path, note: str | None
) -> None:
    (tmp_path / "a.bin.part").write_bytes(b"junk" * 100)
    if note is not None:
        (tmp_path / "a.bin.part.json").write_text(note)
    fetch(Remote(site.url("a.bin", BODY)), tmp_path / "a.bin", FAST)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert left(tmp_path) == ["a.bin"]


def test_pieces_that_do_not_fit_are_fetched_again_in_one(site: Site, tmp_path: Path) -> None:
    url = site.url("a.bin", BODY)
    partial = Partial(tmp_path / "a.bin")
    partial.begin(Version(url, len(BODY), '"v1"'))
    partial.path.write_bytes(b"x" * 1000)
    fetch(Remote(url, sha256=sha256(BODY)), tmp_path / "a.bin", FAST)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.requests.total() == 2


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"size": 5}, "the server has a file of 307200 bytes, but 5 are expected"),
        ({"md5": "0" * 32}, "the md5 of this file is [0-9a-f]{32}, but 0{32} is expected"),
        ({"sha256": "0" * 64}, "the sha256 of this file is [0-9a-f]{64}, but 0{64} is expected"),
    ],
)
def test_another_file_than_expected(
    site: Site, tmp_path: Path, known: dict[str, object], message: str
) -> None:
    with pytest.raises(Damaged, match=message):
        fetch(Remote(site.url("a.bin", BODY), **known), tmp_path / "a.bin", FAST)  # type: ignore[arg-type]
    assert left(tmp_path) == []
    assert site.requests.total() == 1


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "does not have this file"), (403, "refuses access"), (410, "no longer"), (418, "418")],
)
def test_refusals_are_final(site: Site, tmp_path: Path, status: int, message: str) -> None:
    url = site.url("a.bin", BODY, refusals=[(status, {})])
    with pytest.raises(UserError, match=message):
        fetch(Remote(url), tmp_path / "a.bin", FAST)
    assert site.requests.total() == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path, status: int) -> None:
    url = site.url("a.bin", BODY, refusals=[(status, {}), (status, {})])
    fetch(Remote(url), tmp_path / "a.bin", FAST)
    assert site.requests.total() == 3


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_the_pause_that_a_server_asks_for_is_kept(
    site: Site, tmp_path: Path, status: int, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(transfer.Watch, "sleep", lambda self, seconds: pauses.append(seconds))
    value = "7" if form == "seconds" else formatdate(time.time() + 7, usegmt=True)
    fetch(
        Remote(site.url("a.bin", BODY, refusals=[(status, {"Retry-After": value})])),
        tmp_path / "a.bin",
        FAST,
    )
    assert len(pauses) == 1
    assert 4 < pauses[0] <= 7


def test_a_pause_too_long_to_wait_for(site: Site, tmp_path: Path) -> None:
    url = site.url("a.bin", BODY, refusals=[(429, {"Retry-After": "86400"})])
    with pytest.raises(
        UserError, match=r"too many requests to serve \(429\) and asks to wait 86400 s"
    ):
        fetch(Remote(url), tmp_path / "a.bin", FAST)
    assert site.requests.total() == 1


def test_a_server_that_stays_busy(site: Site, tmp_path: Path) -> None:
    url = site.url("a.bin", BODY, refusals=[(503, {})] * 50)
    with pytest.raises(UserError, match=r"not available for the moment \(503\), 4 attempts"):
        fetch(Remote(url), tmp_path / "a.bin", FAST)
    assert site.requests.total() == 4


def test_nobody_there(tmp_path: Path) -> None:
    with serve() as gone:
        url = gone.url("a.bin")
    with pytest.raises(UserError, match=r"cannot be reached .*, 4 attempts"):
        fetch(Remote(url), tmp_path / "a.bin", FAST)


def test_pauses_grow_to_their_limit(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(transfer.Watch, "sleep", lambda self, seconds: pauses.append(seconds))
    patient = replace(FAST, tries=7, first_pause=1.0, longest_pause=6.0)
    with pytest.raises(UserError, match="7 attempts"):
        fetch(
            Remote(site.url("a.bin", BODY, refusals=[(500, {})] * 50)), tmp_path / "a.bin", patient
        )
    assert pauses == [1, 2, 4, 6, 6, 6]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(site: Site, tmp_path: Path, status: int) -> None:
    site.url("real.bin", BODY, breaks_after=100_000, breaks=1)
    moved = [(status, {"Location": "/real.bin"})] * 2
    fetch(Remote(site.url("a.bin", b"", refusals=moved)), tmp_path / "a.bin", FAST)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.ranges == ["bytes=100000-"]


@pytest.mark.parametrize("target", ["/a.bin", "file:///etc/passwd", "ftp://x/y"])
def test_redirects_that_lead_nowhere(site: Site, tmp_path: Path, target: str) -> None:
    url = site.url("a.bin", b"", refusals=[(302, {"Location": target})] * 50)
    with pytest.raises(
        UserError, match="redirects in a circle, or to something that is not a web address"
    ):
        fetch(Remote(url), tmp_path / "a.bin", FAST)
    assert site.requests.total() <= 11
    assert left(tmp_path) == []


def test_unknown_length_needs_something_to_check(site: Site, tmp_path: Path) -> None:
    url = site.url("a.bin", BODY, silent=True)
    with pytest.raises(UserError, match="does not say how long this file is"):
        fetch(Remote(url), tmp_path / "a.bin", FAST)
    fetch(Remote(url, sha256=sha256(BODY)), tmp_path / "a.bin", FAST)
    assert (tmp_path / "a.bin").read_bytes() == BODY


@pytest.mark.parametrize(("etag", "continued"), [('"v1"', True), ("", False)])
def test_chunked_answers_end_where_the_server_says_so(
    site: Site, tmp_path: Path, etag: str, continued: bool
) -> None:
    fetch(
        Remote(site.url("a.bin", BODY, chunked=True, breaks_after=100_000, breaks=1, etag=etag)),
        tmp_path / "a.bin",
        FAST,
    )
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.requests.total() == 2
    assert bool(site.ranges) == continued


def test_no_room(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "RESERVE", 10**18)
    with pytest.raises(UserError, match=r"GB are needed in .* are free"):
        fetch(Remote(site.url("a.bin", BODY)), tmp_path / "a.bin", FAST)


def test_other_protocols_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="only http, https and file addresses"):
        fetch(Remote("ftp://127.0.0.1/a.bin"), tmp_path / "a.bin", FAST)
