"""Lists, JSON and CSV files as editors, spreadsheets and broken copies leave them."""

import re
from pathlib import Path

import pytest

from noisyvos.errors import UserError
from noisyvos.io.text import read_json, read_lines, read_names, read_table, same_name

NAMES = ["car", "my dog", "BDD/b1c9-2", "müll"]
TEXT = "car\nmy dog\nBDD/b1c9-2\nmüll\n"


@pytest.mark.parametrize(
    "data",
    {
        "plain": TEXT.encode(),
        "byte order mark": TEXT.encode("utf-8-sig"),
        "Windows line ends": TEXT.replace("\n", "\r\n").encode("utf-8-sig"),
        "old Mac line ends": TEXT.replace("\n", "\r").encode(),
        "UTF-16, little end first": b"\xff\xfe" + TEXT.encode("utf-16-le"),
        "UTF-16, big end first": b"\xfe\xff" + TEXT.encode("utf-16-be"),
        "UTF-32": b"\xff\xfe\0\0" + TEXT.encode("utf-32-le"),
        "no line end, blanks": ("\n  " + TEXT.replace("\n", " \t\n\n")).rstrip().encode(),
        "folders with a slash": TEXT.replace("\n", "/\n").encode(),
    }.values(),
    ids=str,
)
def test_a_list_reads_the_same_however_it_was_saved(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(data)
    assert read_names(path) == NAMES


def test_lines_that_name_frames_give_their_folders(tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    path.write_text(
        "/JPEGImages/480p/my dog/00000.jpg /Annotations/480p/my dog/00000.png \n"
        "/JPEGImages/480p/my dog/00001.jpg /Annotations/480p/my dog/00001.png\n"
        "JPEGImages\\480p\\car\\00000.JPG Annotations\\480p\\car\\00000.png\n"
        "JPEGImages/480p/cow/00000.jpg Annotations/480p/cow/00000.png 1 0\n"
        "JPEGImages/480p/goat/00000.png\n"
        "v1.png\n"
    )
    assert read_names(path) == ["my dog", "car", "cow", "goat", "v1.png"]


def test_a_name_twice_counts_once_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "val.txt"
    path.write_text("car\ncow\ncar\n")
    assert read_names(path) == ["car", "cow"]
    assert capsys.readouterr().err == (
        f"noisyvos: warning: {path} lists 'car' more than once; each counts once.\n"
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"caf\xe9\n", "byte 3 does not fit). Save it as UTF-8"),
        (TEXT.encode("utf-16-le"), "(byte "),
        ("car\n".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        (b" \n\r\n", "names no sequence. Write one name on each line"),
    ],
)
def test_what_is_no_list_is_refused_in_a_sentence(
    tmp_path: Path, data: bytes, message: str
) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: .*{re.escape(message)}"):
        read_names(path)


def test_lines_keep_what_python_calls_line_ends_inside_names(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a\x0bb\nc\u2028d\n", encoding="utf-8")
    assert read_lines(path) == ["a\x0bb", "c\u2028d"]


def test_names_compare_equal_in_both_unicode_forms() -> None:
    assert same_name("m\u00fcll", ["car", "mu\u0308ll"]) == "mu\u0308ll"
    assert same_name("mull", {"m\u00fcll"}) is None
    assert same_name("car", (name for name in ("cow", "car"))) == "car"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_reads_the_same_in_each_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "meta.json"
    path.write_text('{"m\u00fcll": [1, 2.5]}\r\n', encoding=encoding)
    assert read_json(path) == {"m\u00fcll": [1, 2.5]}


WHOLE = '{"images": [{"file_name": "a.jpg", "id": 12}], "annotations": [1, 2]}'


@pytest.mark.parametrize("end", [3, 9, 12, 30, 40, len(WHOLE) - 1])
def test_a_cut_json_file_says_so_and_how_to_make_it_again(tmp_path: Path, end: int) -> None:
    path = tmp_path / "meta.json"
    path.write_text(WHOLE[:end])
    expected = f"{path}: this JSON file is cut off after {end} characters. Convert it again."
    with pytest.raises(UserError) as caught:
        read_json(path, "Convert it again.")
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this JSON file is empty. Fetch"),
        ("<html>Quota exceeded</html>", "this file is not valid JSON (Expecting value: line 1"),
        ('{"a": 1} {"b": 2}', "this file is not valid JSON (Extra data"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_other_files_are_no_json(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "meta.json"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        read_json(path)


def test_tables_read_and_refuse(tmp_path: Path) -> None:
    path = tmp_path / "objects.csv"
    whole = "\ufeffsequence,object,J\r\n0001,1,0.5\r\nb,2,\r\n"
    path.write_text(whole, encoding="utf-8", newline="")
    table = read_table(path, ("sequence", "J"), dtype={"sequence": str})
    assert table["sequence"].tolist() == ["0001", "b"]
    assert table["J"].iloc[0] == 0.5
    assert table["J"].isna().tolist() == [False, True]
    for text, message in (
        ("", "is empty. Score again."),
        (whole[:-4], "is cut off in its last row. Score again."),
        ("<html>", "lacks the columns sequence, J. Score again."),
        ('sequence,J\n"a,1\n', "is not a CSV file of this kind"),
    ):
        path.write_text(text, encoding="utf-8", newline="")
        with pytest.raises(UserError, match=message):
            read_table(path, ("sequence", "J"), "Score again.")
