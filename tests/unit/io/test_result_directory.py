"""A folder that a user names is replaced only if an earlier run wrote it."""

from pathlib import Path

import pytest

from noisyvos.errors import UserError
from noisyvos.io.atomic import result_directory


def write(path: Path, kind: str, name: str) -> None:
    with result_directory(path, kind) as folder:
        (folder / name).write_text(name)


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


def test_an_earlier_result_is_replaced(tmp_path) -> None:
    write(tmp_path / "out", "overlays", "a")
    write(tmp_path / "out", "overlays", "b")
    assert names(tmp_path / "out") == ["b", "meta.json"]
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", "overlays", "a")
    assert names(tmp_path / "empty") == ["a", "meta.json"]
    assert names(tmp_path) == ["empty", "out"]


def test_an_error_leaves_the_earlier_result(tmp_path) -> None:
    write(tmp_path / "out", "overlays", "a")
    with (
        pytest.raises(FileNotFoundError),
        result_directory(tmp_path / "out", "overlays") as folder,
    ):
        (folder / "b").rename(folder / "c")
    assert names(tmp_path / "out") == ["a", "meta.json"]


def test_other_things_stay(tmp_path) -> None:
    write(tmp_path / "soft", "probabilities", "a")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/me.png").write_bytes(b"me")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/meta.json").write_text("{")
    (tmp_path / "file").write_text("text")
    for name in ("soft", "photos", "broken", "file"):
        with pytest.raises(UserError, match=r"not an earlier result \(overlays\)"):
            write(tmp_path / name, "overlays", "b")
    assert names(tmp_path / "photos") == ["me.png"]
    assert names(tmp_path) == ["broken", "file", "photos", "soft"]
