"""Entries of sources.yaml: what may stand in them, and material that a person puts in place."""

from pathlib import Path

import pytest
import yaml

from noisyvos.errors import UserError
from noisyvos.raw.base import SOURCES, GeneratedSource, ManualSource, load_source

PARAMS = Path(__file__).resolve().parents[3] / "params"
SMALL = {
    "kind": "shapes",
    "seed": 1,
    "train_sequences": 1,
    "val_sequences": 1,
    "frames": 3,
    "images": 1,
}
OWN = {
    "kind": "by_hand",
    "about": "Own films.",
    "wants": [{"path": "films/*", "about": "one folder a film", "count": 2}],
}


def params_with(folder: Path, **entries: dict) -> Path:
    (folder / "sources.yaml").write_text(yaml.safe_dump(entries))
    return folder


def test_every_source_of_the_project_is_valid() -> None:
    names = yaml.safe_load((PARAMS / "sources.yaml").read_text())
    assert {"shapes", "shapes_smoke", "clips", "clip_images"} <= set(names)
    for name in names:
        assert isinstance(load_source(name, PARAMS), GeneratedSource | ManualSource)


def test_every_dataset_of_the_project_names_a_source() -> None:
    sources = set(yaml.safe_load((PARAMS / "sources.yaml").read_text()))
    entries = yaml.safe_load((PARAMS / "datasets.yaml").read_text()).values()
    needed = {entry["source"] for entry in entries if entry["kind"] != "mix"}
    assert needed <= sources


def test_kinds_say_whether_they_generate() -> None:
    kinds = {item.name: item.build for item in SOURCES}
    assert kinds["shapes"].generated
    assert not kinds["by_hand"].generated
    assert all(
        issubclass(kind, GeneratedSource if kind.generated else ManualSource)
        for kind in kinds.values()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "shape"}, "Unknown source kind 'shape'. Did you mean 'shapes'?"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
        ({"frames": 2}, "frames: Input should be greater than or equal to 3"),
        ({"train_sequences": 0}, "train_sequences: Input should be greater than or equal to 1"),
        ({"width": 100}, "at least as wide as they are high"),
        ({"colours": 3}, "colours: Extra inputs are not permitted"),
    ],
)
def test_wrong_settings_of_shapes(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(UserError) as error:
        load_source("mine", params_with(tmp_path, mine=SMALL | change))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("wants", "message"),
    [
        ([], "wants: Tuple should have at least 1 item"),
        ([{"path": "../else"}], "leads out of its folder"),
        ([{"path": "/etc"}], "below the raw folder"),
        (
            [{"path": "films", "count": 0}],
            "wants.0.count: Input should be greater than or equal to 1",
        ),
    ],
)
def test_wrong_settings_by_hand(tmp_path: Path, wants: list, message: str) -> None:
    with pytest.raises(UserError) as error:
        load_source("mine", params_with(tmp_path, mine=OWN | {"wants": wants}))
    assert message in str(error.value)


def test_unknown_source_suggests_a_known_one() -> None:
    with pytest.raises(UserError, match=r"'shapez'.*Did you mean 'shapes'"):
        load_source("shapez", PARAMS)


def test_folder_of_parameters_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--params"):
        load_source("shapes", tmp_path)


def test_missing_counts_matches(tmp_path: Path) -> None:
    source = load_source("mine", params_with(tmp_path, mine=OWN))
    assert source.missing(tmp_path) == ["films/*, at least 2  (one folder a film): none found"]
    (tmp_path / "films" / "one").mkdir(parents=True)
    (tmp_path / "films" / ".hidden").mkdir()
    assert source.missing(tmp_path) == ["films/*, at least 2  (one folder a film): 1 found"]
    (tmp_path / "films" / "two").mkdir()
    assert source.missing(tmp_path) == []


def test_files_follow_links_once_and_leave_stray_files_out(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("b.jpg", "a.jpg", ".DS_Store", "Thumbs.db"):
        (elsewhere / name).write_bytes(b"x")
    (elsewhere / "back").symlink_to(elsewhere, target_is_directory=True)  # a circle
    (raw / "films").mkdir(parents=True)
    (raw / "films" / "one").symlink_to(elsewhere, target_is_directory=True)
    (raw / "unrelated.txt").write_text("x")
    source = load_source("mine", params_with(tmp_path, mine=OWN))
    assert source.files(raw) == ["films/one/a.jpg", "films/one/b.jpg"]
