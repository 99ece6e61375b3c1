"""The one reader of parameter files: defaults of `kind`, and every kind of damaged file."""

import time
from pathlib import Path

import pytest

from noisyvos.errors import UserError
from noisyvos.methods.base import METHODS
from noisyvos.params.entries import Entry, read_entries, read_entry, read_family, read_yaml


def written(folder: Path, content: bytes | str, name: str = "noise.yaml") -> Path:
    data = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(data)
    return folder / name


def test_kind_defaults_to_the_name_of_the_entry(tmp_path: Path) -> None:
    written(tmp_path, "gce: {}\nstrict: {kind: gce, q: 0.3}\n", "methods.yaml")
    assert read_entries(tmp_path, "methods") == {
        "gce": Entry("methods", "gce", "gce", {}),
        "strict": Entry("methods", "strict", "gce", {"q": 0.3}),
    }
    assert read_family(tmp_path, "methods") == {
        "gce": {"kind": "gce"},
        "strict": {"kind": "gce", "q": 0.3},
    }
    item, settings = read_entry(tmp_path, "methods", "strict", METHODS)
    assert (item.name, settings.model_dump()["q"]) == ("gce", 0.3)


def test_schedules_have_no_kind(tmp_path: Path) -> None:
    written(tmp_path, "short: {iterations: 3}\n", "train.yaml")
    assert read_family(tmp_path, "train") == {"short": {"iterations": 3}}


def test_an_unknown_name_or_kind_is_named(tmp_path: Path) -> None:
    written(tmp_path, "gce: {}\nx: {kind: gec}\n", "methods.yaml")
    with pytest.raises(UserError, match=r"name in methods\.yaml: 'gcs'. Did you mean 'gce'"):
        read_entry(tmp_path, "methods", "gcs", METHODS)
    with pytest.raises(UserError, match=r"methods.yaml: x: Unknown .*'gec'. Did you mean 'gce'"):
        read_entry(tmp_path, "methods", "x", METHODS)


def test_aliases_merge_keys_and_byte_order_marks_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, "\ufeffa: &a {q: 1, r: 2}\nb: {<<: *a, q: 3}\nc: *a\n")
    assert read_yaml(path) == {
        "a": {"q": 1, "r": 2},
        "b": {"q": 3, "r": 2},
        "c": {"q": 1, "r": 2},
    }


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 12)
)
DAMAGED = {
    "a number as name": ("70: {}\n", "the name 70 in line 1 is not text. Write it in quotes"),
    "nothing as name": ("a: {}\n~: {}\n", "the name ~ in line 2 is not text"),
    "a date as name": ("2020-01-01: {}\n", "the name 2020-01-01 in line 1 is not text"),
    "a truth value as name": ("on: {}\n", "the name on in line 1 is not text"),
    "a list as name": ("? [1]\n: {}\n", "the name in line 1 is not text"),
    "a number as key": ("a: {b: {3: 4}}\n", "the name 3 in line 1 is not text"),
    "a key twice": ("a: {b: 1,\n b: 2}\n", "the key 'b' is given twice (again in line 2)"),
    "Latin-1": ("a: {}\nb: {c: é}\n".encode("latin-1"), "not UTF-8 text (line 2)"),
    "UTF-16": ("a: {}\n".encode("utf-16"), "not UTF-8 text (line 1)"),
    "an alias bomb": (BOMB, "more than 200,000 values once its aliases are written out"),
    "an alias of itself": ("a: &a {b: *a}\n", "the alias in line 1 contains itself"),
    "60 levels": ("a: " + "[" * 60 + "]" * 60, "nested more than 50 levels deep"),
    "5000 levels": ("a: " + "[" * 5000, "nested more than 50 levels deep"),
    "60 levels by aliases": (
        "a: &a " + "[" * 30 + "]" * 30 + "\nb: " + "[" * 30 + "*a" + "]" * 30,
        "nested more than 50 levels deep",
    ),
    "a large file": ("# " + "x" * 4_000_000, "a parameter file has 4,000,000 at most"),
    "infinity": ("a: {q: -.inf}\n", "the number -.inf in line 1 is not finite"),
    "a float too large": ("a: {q: 1.0e+999}\n", "the number 1.0e+999 in line 1 is not finite"),
    "an impossible date": ("a: {b: 2020-13-45}\n", "not valid YAML (month must be in 1..12)"),
    "an endless number": ("a: {b: " + "9" * 5000 + "}\n", "not valid YAML (Exceeds the limit"),
    "code": ("a: !!python/object/apply:os.getpid []\n", "not valid YAML (could not determine"),
    "a control character": ("a: \x00\n", "not valid YAML (unacceptable character"),
    "two documents": ("a: {}\n---\nb: {}\n", "not valid YAML (expected a single document"),
    "an open brace": ("a: {b: 1\n", "not valid YAML"),
    "nothing": ("", "expected `name: settings` entries"),
    "a list": ("- a\n", "expected `name: settings` entries"),
    "an entry of nothing": ("a:\n", "a: expected settings, got None. An entry without settings"),
    "a list as kind": ("a: {kind: [1]}\n", "a: `kind` must be the name of a registered kind"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_one_sentence_that_names_it(tmp_path: Path, case: str) -> None:
    content, message = DAMAGED[case]
    written(tmp_path, content)
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        read_family(tmp_path, "noise")
    assert "noise.yaml: " in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert time.monotonic() - started < 20


def test_a_missing_file_says_how_to_name_another_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"noise\.yaml: no such parameter file.*--params"):
        read_family(tmp_path, "noise")
