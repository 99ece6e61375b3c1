"""A folder that a user names is replaced only if an earlier run wrote it."""

import os
from pathlib import Path

import pytest

from noisyvos.errors import UserError
from noisyvos.io.atomic import (
    MARKER,
    atomic_file,
    check_output,
    check_writable,
    output_directory,
    result_directory,
)


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
    for name in ("soft", "photos", "broken"):
        with pytest.raises(UserError, match=r"not an earlier result \(overlays\)"):
            write(tmp_path / name, "overlays", "b")
    with pytest.raises(UserError, match="this is a file"):
        write(tmp_path / "file", "overlays", "b")
    assert (tmp_path / "file").read_text() == "text"
    assert names(tmp_path / "photos") == ["me.png"]
    assert names(tmp_path) == ["broken", "file", "photos", "soft"]


def make(path: Path, stage: str = "tables", **options) -> None:
    with output_directory(path, stage, **options) as folder:
        (folder / "new.csv").write_text("new")


def test_the_marker_is_the_same_in_every_run_and_engines_may_empty_or_stamp(tmp_path) -> None:
    out = tmp_path / "out"
    make(out)
    first = (out / MARKER).read_bytes()
    make(out)
    assert (out / MARKER).read_bytes() == first == b"tables\n"
    (out / ".snakemake_timestamp").touch()
    make(out, names=("*.csv",))
    assert names(out) == [MARKER, "new.csv"]
    stamped = tmp_path / "stamped"
    stamped.mkdir()
    (stamped / ".snakemake_timestamp").touch()
    make(stamped)
    assert names(tmp_path) == ["out", "stamped"]


def test_a_refusal_names_what_would_be_lost(tmp_path) -> None:
    make(tmp_path / "out")
    (tmp_path / "out/notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"would be lost: notes\.txt\."):
        make(tmp_path / "out", names=("*.csv",))
    with pytest.raises(UserError, match="not an earlier result \\(figures\\)"):
        make(tmp_path / "out", "figures")
    assert (tmp_path / "out/notes.txt").read_text() == "mine"
    full = tmp_path / "full"
    full.mkdir()
    for number in range(9):
        (full / f"{number}.png").touch()
    with pytest.raises(UserError, match=r"0\.png, .*4\.png and 4 more"):
        make(full)


def test_what_comes_while_a_stage_works_is_not_lost(tmp_path) -> None:
    def slow() -> None:
        with output_directory(tmp_path / "out", "tables"):
            (tmp_path / "out").mkdir()
            (tmp_path / "out/late.txt").write_text("late")

    with pytest.raises(UserError, match=r"would be lost: late\.txt"):
        slow()
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out/late.txt").read_text() == "late"


@pytest.mark.parametrize(("read", "written"), [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("l", "a")])
def test_input_and_output_are_apart(tmp_path, read: str, written: str) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "l").symlink_to("a")
    with pytest.raises(UserError, match=r"would replace this input|inside the input"):
        check_output(tmp_path / written, "convert", inputs=(tmp_path / read,))


def test_a_link_to_a_folder_stays_and_a_file_is_not_replaced_by_a_folder(tmp_path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "out").symlink_to("far")
    make(tmp_path / "out")
    make(tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert names(tmp_path / "far") == [MARKER, "new.csv"]
    assert names(tmp_path) == ["far", "out"]
    with pytest.raises(IsADirectoryError), atomic_file(tmp_path / "far") as temporary:
        temporary.write_text("x")
    assert names(tmp_path / "far") == [MARKER, "new.csv"]


def test_a_listed_folder_holds_results_alone_and_only_those_are_replaced(tmp_path) -> None:
    out = tmp_path / "masks"
    make(out, listed=True)
    make(out, listed=True)
    assert names(out) == ["new.csv"]
    (out / "mine.csv").write_text("mine")
    with pytest.raises(UserError, match=r"would be lost: mine\.csv\."):
        make(out, listed=True)
    (out / "mine.csv").rename(tmp_path / "mine.csv")
    (out / "new.csv").rename(out / "other.csv")
    with pytest.raises(UserError, match=r"would be lost: other\.csv\."):
        make(out, listed=True)


def test_files_reach_the_disk_before_their_names(tmp_path, monkeypatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append("sync"), sync(number))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("rename"), replace(a, b))[1])
    with atomic_file(tmp_path / "a") as temporary:
        temporary.write_text("x")
    make(tmp_path / "out")
    assert done == ["sync", "rename", "sync", "sync", "sync", "rename", "sync"]


def test_an_output_is_tried_before_long_work_and_nothing_changes(tmp_path) -> None:
    (tmp_path / "old").write_text("old")
    check_writable(tmp_path / "old")
    check_writable(tmp_path / "new/file")
    assert (tmp_path / "old").read_text() == "old"
    assert names(tmp_path) == ["old"]
    with pytest.raises(IsADirectoryError):
        check_writable(tmp_path)
    with pytest.raises(NotADirectoryError):
        check_writable(tmp_path / "old/below/file")
    with pytest.raises(OSError, match="too long"):
        check_writable(tmp_path / ("x" * 300))
