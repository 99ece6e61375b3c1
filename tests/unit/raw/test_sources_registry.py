"""The registry of published datasets: what an entry says, and its row in the documentation."""

from pathlib import Path

import pytest
import yaml

from noisyvos.raw.base import load_source
from noisyvos.raw.kinds.archives import ArchiveSource
from noisyvos.raw.published import PublishedSource

ROOT = Path(__file__).resolve().parents[3]
OWN = {"clips", "clip_images"}
SCRIBBLES = {"rhmnet_coco", "rhmnet_davis", "rhmnet_youtube"}
WEIGHTS = {
    *("imagenet_resnet50", "imagenet_resnet18", "xmem_release", "deeplab_r101"),
    *("afb_urr_release", "visor_release", "rhmnet_release"),
}
NAMES = [
    name
    for name, entry in yaml.safe_load((ROOT / "params" / "sources.yaml").read_text()).items()
    if entry["kind"] in ("archives", "by_hand") and name not in OWN
]


def source(name: str) -> PublishedSource:
    found = load_source(name, ROOT / "params")
    assert isinstance(found, PublishedSource)
    return found


def test_every_dataset_of_the_five_systems_is_there() -> None:
    videos = {
        "davis16",
        "davis17",
        "davis17_full",
        "davis17_test_dev",
        "visor",
        "visor_raw",
        "long_videos",
        "bl30k",
        "tao_vos",
    }
    youtube = {
        f"youtube{year}_{part}" for year in (18, 19) for part in ("train", "valid", "all_frames")
    }
    images = {
        "coco",
        "msra10k",
        "ecssd",
        "pascal_s",
        "voc2012",
        "duts",
        "fss1000",
        "big",
        "hrsod",
        "static",
    }
    assert videos | youtube | images | SCRIBBLES | WEIGHTS == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_entry_says_what_a_person_must_know(name: str) -> None:
    settings = source(name).settings
    assert settings.url.startswith(("http://", "https://"))
    assert settings.licence
    assert settings.published or name in SCRIBBLES | WEIGHTS
    assert settings.disk or name in {"visor", "tao_vos"} | SCRIBBLES | WEIGHTS
    for counts in settings.published.values():
        known = counts.model_dump(exclude={"recalled"}, exclude_none=True)
        assert known
        assert set(counts.recalled) <= set(known)


@pytest.mark.parametrize("name", NAMES)
def test_entry_has_a_row_in_the_documentation(name: str) -> None:
    rows = [
        line
        for line in (ROOT / "docs" / "reference" / "sources.md").read_text().splitlines()
        if line.startswith(f"| `{name}` |")
    ]
    assert len(rows) == 1
    assert ("fetched" if isinstance(source(name), ArchiveSource) else "by hand") in rows[0]


@pytest.mark.parametrize("name", NAMES)
def test_no_count_is_demanded_that_nothing_confirms(name: str) -> None:
    settings = source(name).settings
    splits = [
        {
            key: value
            for key, value in counts.model_dump(exclude={"recalled"}, exclude_none=True).items()
            if key not in counts.recalled
        }
        for counts in settings.published.values()
    ]
    confirmed = {value for split in splits for value in split.values()}
    confirmed.add(sum(split.get("sequences", 0) for split in splits))
    assert {want.count for want in settings.wants} <= confirmed | {1}


@pytest.mark.parametrize("between", ["", "480p/"])
def test_own_videos_may_have_a_folder_of_the_resolution_in_between(
    between: str, tmp_path: Path
) -> None:
    names = [
        f"JPEGImages/{between}cat/a.png",
        f"JPEGImages/{between}cat/b.jpg",
        f"Annotations/{between}cat/a.png",
    ]
    clips = source("clips")
    assert len(clips.missing(tmp_path)) == 2
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert clips.missing(tmp_path) == []
    assert clips.files(tmp_path) == sorted(names)
