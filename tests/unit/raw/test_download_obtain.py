"""Archives of a source from a server on loopback into the raw folder.

Unpacking, refusals, what is remembered, what is left.
"""

import hashlib
import io
import json
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from noisyvos.errors import UserError
from noisyvos.raw.base import load_source
from noisyvos.raw.fetch import unpack as unpacking
from noisyvos.raw.fetch.unpack import Limits, unpack
from noisyvos.stages import download

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "helpers"))
from loopback import Site, serve

FRAMES = {f"DAVIS/JPEGImages/480p/cat/0000{i}.jpg": bytes([i]) * 3000 for i in range(3)}
MASKS = {f"DAVIS/Annotations/480p/cat/0000{i}.png": bytes([i + 9]) * 500 for i in range(3)}


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as running:
        yield running


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in files.items():
            target.writestr(name, data)
    return buffer.getvalue()


def tarred(
    files: dict[str, bytes], mode: str = "w", links: dict[str, tuple[bytes, str]] | None = None
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as target:  # type: ignore[call-overload]
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            target.addfile(entry, io.BytesIO(data))
        for name, (kind, to) in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, to
            target.addfile(entry)
    return buffer.getvalue()


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def visible(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in tree(folder).items() if not name.startswith(".")}


class World:
    """A parameter file with one source `made`, and the folders its stage uses."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.raw, self.out, self.archives = (
            base / "raw" / "made",
            base / "sources" / "made.json",
            base / "archives" / "made",
        )
        self.record = base / "sources" / "made.archives.json"

    def describe(self, files: list[dict[str, Any]], **settings: Any) -> "World":
        wants = settings.pop("wants", [{"path": "**/*.jpg"}])
        entry = {
            "kind": "archives",
            "about": "made up",
            "licence": "CC0",
            "files": files,
            "wants": wants,
        } | settings
        (self.base / "params").mkdir(exist_ok=True)
        (self.base / "params" / "sources.yaml").write_text(yaml.safe_dump({"made": entry}))
        return self

    def download(self, **options: Any) -> None:
        download.run(
            "made",
            raw=self.raw,
            out=self.out,
            params=self.base / "params",
            **{"accept_licence": True} | options,
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def davis(site: Site, world: World, **settings: Any) -> World:
    frames, masks = (
        site.url("frames.zip", zipped(FRAMES)),
        site.url("masks.tar.gz", tarred(MASKS, "w:gz")),
    )
    return world.describe(
        [{"url": frames, "root": "DAVIS"}, {"url": masks, "root": "DAVIS"}], **settings
    )


def test_archives_become_raw_files_and_a_list(site: Site, world: World) -> None:
    davis(site, world).download()
    assert visible(world.raw) == {
        name.removeprefix("DAVIS/"): data for name, data in (FRAMES | MASKS).items()
    }
    assert [entry["path"] for entry in json.loads(world.out.read_text())] == [
        f"JPEGImages/480p/cat/0000{i}.jpg" for i in range(3)
    ]
    record = json.loads(world.record.read_text())
    body = site.pages["/frames.zip"].body
    assert record["frames.zip"] == {
        "url": site.url("frames.zip"),
        "size": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    assert (world.archives / "frames.zip").read_bytes() == body


def test_a_second_run_asks_nothing_and_changes_nothing(site: Site, world: World) -> None:
    davis(site, world).download()
    before, asked = tree(world.base), site.requests.total()
    world.download(accept_licence=False)
    assert (tree(world.base), site.requests.total()) == (before, asked)


def test_a_lost_raw_file_comes_back_from_the_kept_archive(site: Site, world: World) -> None:
    davis(site, world).download()
    before, asked = tree(world.base), site.requests.total()
    (world.raw / "JPEGImages/480p/cat/00001.jpg").write_bytes(b"short")
    (world.raw / "Annotations/480p/cat/00001.png").unlink()
    world.download()
    assert (tree(world.base), site.requests.total()) == (before, asked)


def test_archives_go_if_they_are_not_wanted(site: Site, world: World) -> None:
    davis(site, world, keep_archives=False).download()
    assert set(tree(world.archives)) == {".lock"}
    assert len(visible(world.raw)) == 6


def test_files_that_a_person_put_in_place_are_taken_as_they_are(site: Site, world: World) -> None:
    davis(site, world)
    (world.raw / "mine").mkdir(parents=True)
    (world.raw / "mine" / "a.jpg").write_bytes(b"x")
    world.download(accept_licence=False)
    assert site.requests.total() == 0
    assert visible(world.raw) == {"mine/a.jpg": b"x"}


def test_nothing_is_fetched_into_a_linked_folder(site: Site, world: World, tmp_path: Path) -> None:
    davis(site, world)
    (tmp_path / "elsewhere").mkdir()
    world.raw.parent.mkdir()
    world.raw.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="not complete"):
        world.download()
    assert (site.requests.total(), list((tmp_path / "elsewhere").iterdir())) == (0, [])


def test_without_acceptance_nothing_is_asked(site: Site, world: World) -> None:
    davis(site, world)
    with pytest.raises(
        UserError, match=r"accept its licence(.|\n)*CC0(.|\n)*frames.zip(.|\n)*--accept-licence"
    ):
        world.download(accept_licence=False)
    assert (site.requests.total(), world.raw.exists()) == (0, False)


def test_the_first_sum_is_required_from_then_on(site: Site, world: World) -> None:
    davis(site, world, keep_archives=False).download()
    (world.raw / "JPEGImages/480p/cat/00000.jpg").unlink()
    site.url("frames.zip", zipped(FRAMES | {"DAVIS/new.jpg": b"n"}), etag='"v2"')
    with pytest.raises(UserError, match="another one when it was first fetched"):
        world.download()
    assert not (world.archives / "frames.zip").exists()


def test_a_damaged_kept_archive_is_named(site: Site, world: World) -> None:
    davis(site, world).download()
    (world.raw / "JPEGImages/480p/cat/00000.jpg").unlink()
    path = world.archives / "frames.zip"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"frames.zip: the sha256 .* Remove it to fetch it again"):
        world.download()


def test_one_failure_ends_the_others_and_a_later_run_goes_on(site: Site, world: World) -> None:
    slow = site.url("slow.zip", zipped(FRAMES), pause=0.02, block=16)
    world.describe([{"url": slow, "root": "DAVIS"}, {"url": site.url("gone.zip")}])
    with pytest.raises(UserError, match=r"gone\.zip: the server does not have this file"):
        world.download()
    assert not (world.archives / "slow.zip").exists()
    assert visible(world.raw) == {}
    site.url("gone.zip", zipped({"b.jpg": b"b"}))
    site.pages["/slow.zip"].pause = 0
    world.download()
    assert len(visible(world.raw)) == 4


def test_plain_files_and_folders_to_put_things_in(site: Site, world: World) -> None:
    files = [
        {"url": site.url("list.txt", b"cat\n"), "into": "ImageSets"},
        {"url": site.url("get?id=1", zipped({"a.jpg": b"a"})), "into": "x/y"},
    ]
    files[1] |= {"name": "some.zip"}
    world.describe(files).download()
    assert visible(world.raw) == {"ImageSets/list.txt": b"cat\n", "x/y/a.jpg": b"a"}


def test_parts_of_one_archive_and_zips_inside_it(site: Site, world: World) -> None:
    inner = {
        "P01_01.zip": zipped({"a.jpg": b"a"}),
        "P02_07.zip": zipped({"P02_07/b.jpg": b"b", "P02_07/._b.jpg": b""}),
    }
    members = {f"all/frames/{name[:3]}/{name}": data for name, data in inner.items()}
    body = zipped(
        members
        | {
            "all/notes/x.json": b"{}",
            "all/notes/y.zip": zipped({"z": b"z"}),
            "all/other/big.bin": b"o" * 999,
        }
    )
    parts = [
        {"root": "all/notes", "into": "notes"},
        {"root": "all/frames", "into": "frames", "zips": True},
    ]
    world.describe([{"url": site.url("all.zip", body), "parts": parts}]).download()
    assert set(visible(world.raw)) == {
        "frames/P01_01/a.jpg",
        "frames/P02_07/b.jpg",
        "notes/x.json",
        "notes/y.zip",
    }
    before, asked = tree(world.base), site.requests.total()
    world.download()
    assert (tree(world.base), site.requests.total()) == (before, asked)


def test_a_zip_inside_that_leads_out_is_refused(site: Site, world: World) -> None:
    body = zipped({"v.zip": evil_zip("../../evil.jpg")})
    world.describe([{"url": site.url("all.zip", body), "zips": True}])
    with pytest.raises(UserError, match="leads out of its folder"):
        world.download()
    assert tree(world.raw) == {}


def test_content_that_is_not_what_is_wanted_is_told(site: Site, world: World) -> None:
    world.describe([{"url": site.url("a.zip", zipped({"other/a.png": b"a"}))}])
    with pytest.raises(UserError, match=r"not complete(.|\n)*\*\*/\*\.jpg: none found"):
        world.download()


def evil_zip(name: str, mode: int = 0o100644, data: bytes = b"x") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("good.jpg", b"good")
        entry = zipfile.ZipInfo(name)
        entry.external_attr, entry.compress_type = mode << 16, zipfile.ZIP_DEFLATED
        target.writestr(entry, data)
    return buffer.getvalue()


OUTSIDE = "leads out of its folder"
LINK = "is a link or a special file"
EVIL = {
    "up.zip": (evil_zip("../evil.jpg"), OUTSIDE),
    "deep.zip": (evil_zip("a/../../evil.jpg"), OUTSIDE),
    "root.zip": (evil_zip("/evil.jpg"), OUTSIDE),
    "drive.zip": (evil_zip("C:/evil.jpg"), OUTSIDE),
    "back.zip": (evil_zip("..\\evil.jpg"), OUTSIDE),
    "updir.zip": (evil_zip("../evil/"), OUTSIDE),
    "link.zip": (evil_zip("evil.jpg", 0o120777, b"/etc/passwd"), LINK),
    "bomb.zip": (evil_zip("evil.jpg", data=bytes(80 * 2**20)), "far more than its own size"),
    "up.tar": (tarred({"good.jpg": b"x", "../evil.jpg": b"x"}), OUTSIDE),
    "root.tar": (tarred({"good.jpg": b"x", "/evil.jpg": b"x"}), OUTSIDE),
    "symlink.tar": (
        tarred({"good.jpg": b"x"}, links={"evil.jpg": (tarfile.SYMTYPE, "../../x")}),
        LINK,
    ),
    "hardlink.tar": (
        tarred({"good.jpg": b"x"}, links={"evil.jpg": (tarfile.LNKTYPE, "/etc/passwd")}),
        LINK,
    ),
    "device.tar": (tarred({"good.jpg": b"x"}, links={"evil.jpg": (tarfile.FIFOTYPE, "")}), LINK),
    "bomb.tar.xz": (
        tarred({"good.jpg": b"x", "evil.jpg": bytes(80 * 2**20)}, "w:xz"),
        "far more than its own size",
    ),
    "page.zip": (
        b"<html>please log in</html>",
        "is not a zip archive; perhaps the server sent a page",
    ),
    "page.tar": (
        b"<html>please log in</html>",
        "is not a tar archive; perhaps the server sent a page",
    ),
    "cut.zip": (zipped({"good.jpg": bytes(range(256)) * 99})[:-40], "is not a zip archive"),
    "cut.tar": (tarred({"good.jpg": bytes(range(256)) * 99})[:9000], "is damaged"),
    "both.tar": (tarred({"a": b"x", "a/b.jpg": b"x"}), "one name for a file and for a folder"),
    "hidden.zip": (zipped({".unpacked/x.json": b"{}", "__MACOSX/a.jpg": b"x"}), "holds no files"),
}


@pytest.mark.parametrize("name", EVIL)
def test_archives_that_are_refused_leave_nothing(site: Site, world: World, name: str) -> None:
    body, message = EVIL[name]
    world.describe([{"url": site.url(name, body)}])
    with pytest.raises(UserError, match=message):
        world.download()
    assert tree(world.raw) == {}
    assert [path for path in tree(world.base) if "evil" in path or "good" in path] == []


def test_a_page_in_place_of_weights_is_refused_and_not_expected_again(
    site: Site, world: World
) -> None:
    page = site.url("XMem-s0.pth", b"\n<!DOCTYPE html><title>Quota exceeded</title>")
    world.describe([{"url": page, "unpack": "none"}], wants=[{"path": "*.pth"}])
    with pytest.raises(UserError, match=r"XMem-s0\.pth: this file is a web page"):
        world.download()
    assert not visible(world.raw)
    (world.archives / "XMem-s0.pth").unlink()
    world.describe(
        [{"url": site.url("XMem-s0.pth", b"the weights"), "unpack": "none"}],
        wants=[{"path": "*.pth"}],
    )
    world.download()
    assert visible(world.raw) == {"XMem-s0.pth": b"the weights"}


def test_the_first_digits_of_a_sum_are_enough(site: Site, world: World) -> None:
    body = b"the weights"
    start = hashlib.sha256(body).hexdigest()[:8]
    wrong = "0" * 8
    assert start != wrong
    world.describe(
        [{"url": site.url("a.pth", body), "unpack": "none", "sha256": wrong}],
        wants=[{"path": "*.pth"}],
    )
    with pytest.raises(UserError, match=rf"sha256 of this file is {start}.* {wrong} is expected"):
        world.download()
    world.describe(
        [{"url": site.url("a.pth", body), "unpack": "none", "sha256": start}],
        wants=[{"path": "*.pth"}],
    )
    world.download()
    assert visible(world.raw) == {"a.pth": body}


def test_entries_of_torchvision_bring_address_and_sum(world: World) -> None:
    source = load_source("imagenet_resnet50", Path(__file__).resolve().parents[3] / "params")
    (file,) = source.settings.files
    item = file.item()
    assert item.name == "resnet50.pth"
    assert re.search(r"/resnet50-[0-9a-f]{8}\.pth$", item.remote.url)
    assert item.remote.url.endswith(f"-{item.remote.sha256}.pth")
    with pytest.raises(UserError, match="torchvision has no weights 'ResNet49'"):
        file.model_copy(update={"url": "torchvision:ResNet49"}).item()


def test_a_wrong_crc_is_damage(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.jpg": bytes(range(256)) * 40}))
    data[80] ^= 255
    (tmp_path / "a.zip").write_bytes(data)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="is damaged"):
        unpack(tmp_path / "a.zip", tmp_path / "out", kind="zip")


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"members": 2}, "far more"),
        ({"ratio": 0.1, "small": 10}, "far more"),
        ({"reserve": 10**18}, "GB are free"),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_limits(tmp_path: Path, kind: str, limits: dict[str, Any], message: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(zipped(FRAMES) if kind == "zip" else tarred(FRAMES))
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=message):
        unpack(path, tmp_path / "out", kind=kind, limits=Limits(**limits))  # type: ignore[arg-type]


def test_merge_replaces_files_and_keeps_others(tmp_path: Path) -> None:
    for name, text in {
        "new/a/x": "new",
        "new/b/y": "new",
        "old/a/x": "old",
        "old/a/z": "old",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    unpacking.merge(tmp_path / "new", tmp_path / "old")
    assert tree(tmp_path) == {"old/a/x": b"new", "old/a/z": b"old", "old/b/y": b"new"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "ftp://x/a.zip"}, "an http, https or file address is needed"),
        ({"url": "http://x/"}, "does not end in a file name: give `name`"),
        ({"name": "../a.zip"}, "does not end in a file name"),
        ({"into": "../x"}, "a folder inside is needed"),
        ({"root": "/x"}, "a folder inside is needed"),
        ({"parts": [{"root": "a"}], "into": "b"}, "belong into its entries"),
        ({"md5": "12"}, "md5: String should match"),
        ({"unpack": "rar"}, "unpack: Input should be 'zip', 'tar' or 'none'"),
    ],
)
def test_settings_that_are_refused(world: World, change: dict[str, Any], message: str) -> None:
    world.describe([{"url": "http://127.0.0.1/a.zip"} | change])
    with pytest.raises(UserError, match=message):
        load_source("made", world.base / "params")


def test_two_files_of_one_name(world: World) -> None:
    world.describe([{"url": "http://127.0.0.1/1/a.zip"}, {"url": "http://127.0.0.1/2/a.zip"}])
    with pytest.raises(UserError, match="two of the files have one name"):
        load_source("made", world.base / "params")
