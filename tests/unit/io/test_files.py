"""The file finder: what counts below a folder or in a zip, in which order, and through links."""

import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest

from noisyvos.errors import UserError
from noisyvos.io.files import files_below, files_in, folders_in, image_files, mask_files, time_order
from noisyvos.io.masks import MaskCollection, encode_mask, write_mask_zip
from noisyvos.raw.fetch.unpack import unpack

MASK = encode_mask(np.eye(4, dtype=np.uint8))


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(MASK)


def pack(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            entry = zipfile.ZipInfo("x")
            entry.filename = name
            archive.writestr(entry, MASK)
    return path


def test_names_that_differ_in_a_number_are_in_its_order(tmp_path: Path) -> None:
    touch(tmp_path, *(f"car/f{t}.png" for t in range(12)))
    wanted = [f"f{t}" for t in range(12)]
    assert list(image_files(tmp_path / "car")) == wanted
    assert list(mask_files(tmp_path / "car")) == wanted
    assert list(MaskCollection(tmp_path).frames("car")) == wanted
    assert time_order(["2_10", "2_9", "1_11"]) == ["1_11", "2_9", "2_10"]
    assert time_order(["b1", "a2", "a10"]) == ["a10", "a2", "b1"]


def test_an_order_that_is_not_clear_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a2.png", "a10.png", "b1.png")
    with pytest.raises(UserError, match="By name, 'a10' comes before 'a2'"):
        image_files(tmp_path)
    (tmp_path / "a10.png").rename(tmp_path / "a3.png")
    assert list(image_files(tmp_path)) == ["a2", "a3", "b1"]


def test_masks_in_the_order_of_their_numbers_can_be_packed(tmp_path: Path) -> None:
    frames = [str(t) for t in range(11)]
    write_mask_zip(tmp_path / "m.zip", (("car", frame, MASK) for frame in frames))
    with MaskCollection(tmp_path / "m.zip") as masks:
        assert list(masks.frames("car")) == frames


def test_links_are_followed_but_no_loops(tmp_path: Path) -> None:
    touch(tmp_path, "store/x/0.png", "truth/b/0.png")
    (tmp_path / "truth/a").symlink_to("../store/x")
    (tmp_path / "truth/again").symlink_to("../store/x")
    (tmp_path / "truth/b/up").symlink_to("..")
    assert MaskCollection(tmp_path / "truth").sequences() == ("a", "again", "b")
    assert len(files_in(tmp_path / "truth", (".png",), deep=True)) == 3
    assert files_below(tmp_path / "truth") == ["a/0.png", "again/0.png", "b/0.png"]


def test_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "b/0.png")
    (tmp_path / "a").symlink_to("gone")
    for find in (folders_in, MaskCollection, files_below):
        with pytest.raises(UserError, match="a: this link leads to nothing"):
            find(tmp_path)


def test_stray_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    stray = ("a/.ipynb_checkpoints/0.png", "__MACOSX/a/._0.png", "a/._0.png", "@eaDir/a/0.png")
    touch(tmp_path / "f", "a/0.png", *stray)
    assert [path.name for path in folders_in(tmp_path / "f")] == ["a"]
    pack(tmp_path / "m.zip", "a/0.png", *stray)
    for path in (tmp_path / "f", tmp_path / "m.zip"):
        with MaskCollection(path) as masks:
            assert masks.sequences() == ("a",)
            assert masks.frames("a") == ("0",)


def test_endings_count_in_any_case(tmp_path: Path) -> None:
    touch(tmp_path, "a/0.PNG", "a/1.Png", "b/0.JPG", "b/1.jpeg")
    assert list(mask_files(tmp_path / "a")) == ["0", "1"]
    assert list(image_files(tmp_path / "b")) == ["0", "1"]
    np.testing.assert_array_equal(MaskCollection(tmp_path).read("a", "1"), np.eye(4))
    touch(tmp_path, "a/1.png")
    for find in (mask_files, image_files):
        with pytest.raises(UserError, match="share a frame name"):
            find(tmp_path / "a")


def test_unicode_forms_are_one_name(tmp_path: Path) -> None:
    composed = "caf\u00e9"
    other = unicodedata.normalize("NFD", composed)
    touch(tmp_path, f"{other}/{other}1.png")
    masks = MaskCollection(tmp_path)
    assert masks.sequences() == (composed,)
    for name in (composed, other):
        assert masks.read(name, f"{name}1").shape == (4, 4)
    touch(tmp_path, f"{composed}/0.png")
    with pytest.raises(UserError, match="share a folder name"):
        folders_in(tmp_path)


def test_zips_with_backslashes_or_one_name_twice(tmp_path: Path) -> None:
    with MaskCollection(pack(tmp_path / "w.zip", "a\\0.png", "a\\1.png")) as masks:
        assert masks.frames("a") == ("0", "1")
        assert masks.read("a", "1").shape == (4, 4)
    with pytest.raises(UserError, match=r"a/0\.png is there twice"):
        MaskCollection(pack(tmp_path / "d.zip", "a/0.png", "a\\0.png"))
    with pytest.raises(UserError, match="leads out of its folder"):
        MaskCollection(pack(tmp_path / "e.zip", "..\\0.png"))
    (tmp_path / "out").mkdir()
    assert unpack(tmp_path / "w.zip", tmp_path / "out", kind="zip").keys() == {"a/0.png", "a/1.png"}
    with pytest.raises(UserError, match=r"'a/0\.png' is twice in this archive"):
        unpack(tmp_path / "d.zip", tmp_path / "out", kind="zip")
