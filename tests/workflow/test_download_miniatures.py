"""Every fetched source of the registry, in miniature.

Served on loopback, downloaded with its own settings, converted.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from noisyvos.stages import convert, download, unify, visor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from loopback import Site, serve
from published_archives import ARCHIVES, packed

PARAMS = Path(__file__).resolve().parents[2] / "params"
REGISTRY = yaml.safe_load((PARAMS / "sources.yaml").read_text())


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        with serve() as running:
            yield running


def fetch(name: str, site: Site, base: Path) -> Path:
    """Serve the miniature of source `name`, download it with the settings of the registry.

    And return its raw folder.

    Only the addresses, the published sizes and sums, and the counts of the real thing are replaced.
    """
    entry = json.loads(json.dumps(REGISTRY[name]))
    for file in entry["files"]:
        archive = file["url"].rpartition("/")[2]
        file["url"] = site.url(f"{name}/{archive}", packed(archive, ARCHIVES[name]()[archive]))
        for known in ("size", "md5", "sha256"):
            file.pop(known, None)
    for want in entry["wants"]:
        want["count"] = min(want.get("count", 1), 2)
    (base / "params").mkdir()
    (base / "params" / "sources.yaml").write_text(yaml.safe_dump({name: entry}))
    raw = base / "raw" / name
    download.run(
        name,
        raw=raw,
        out=base / "sources" / f"{name}.json",
        params=base / "params",
        accept_licence=True,
    )
    return raw


def test_there_is_a_miniature_of_every_fetched_source() -> None:
    # weights of networks are single files, which nothing unpacks
    assert set(ARCHIVES) == {
        name
        for name, entry in REGISTRY.items()
        if entry["kind"] == "archives"
        and not all(want["path"].endswith((".pth", ".pth.tar")) for want in entry["wants"])
    }


@pytest.mark.parametrize("name", ARCHIVES)
def test_what_is_wanted_comes_out_of_the_archives(name: str, site: Site, tmp_path: Path) -> None:
    raw = fetch(name, site, tmp_path)
    listed = {
        entry["path"] for entry in json.loads((tmp_path / "sources" / f"{name}.json").read_text())
    }
    assert listed
    assert all((raw / path).is_file() for path in listed)
    assert not [
        path
        for path in raw.rglob("*")
        if path.name in (".DS_Store", "__MACOSX", "DAVIS", "VOCdevkit")
    ]
    images = sum(
        member.endswith((".jpg", ".png")) and "/." not in member
        for files in ARCHIVES[name]().values()
        for member in files
    )
    images += 5 if name == "visor_raw" else 0  # these lie in zips inside the zip
    assert len([path for path in raw.rglob("*") if path.suffix in (".jpg", ".png")]) == images


@pytest.mark.parametrize(
    ("source", "dataset", "facts"),
    [
        ("davis17", "davis17_train", {"bear", "boat"}),
        ("davis17", "davis17_val", {"cows"}),
        ("davis17", "davis16_val", {"cows"}),
    ],
)
def test_davis_goes_on_to_the_common_layout(
    source: str, dataset: str, facts: set[str], site: Site, tmp_path: Path
) -> None:
    convert.run(
        dataset, raw=fetch(source, site, tmp_path), out=tmp_path / "converted", params=PARAMS
    )
    meta = json.loads((tmp_path / "converted" / "meta.json").read_text())
    assert set(meta["sequences"]) == facts


def test_coco_goes_on_to_the_common_layout(site: Site, tmp_path: Path) -> None:
    convert.run(
        "coco_train", raw=fetch("coco", site, tmp_path), out=tmp_path / "converted", params=PARAMS
    )
    meta = json.loads((tmp_path / "converted" / "meta.json").read_text())
    assert (meta["images"], meta["instances"], meta["crowd"]) == (3, 3, 3)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("msra10k", "MSRA10K"),
        ("ecssd", "ECSSD"),
        ("pascal_s", "PASCAL-S"),
        ("voc2012", "PASCALVOC2012"),
        ("coco", "COCO"),
    ],
)
def test_still_images_go_on_to_one_set(source: str, name: str, site: Site, tmp_path: Path) -> None:
    unify.run(name, source=fetch(source, site, tmp_path), destination=tmp_path / "static")
    images, masks = (
        sorted(path.stem for path in (tmp_path / "static" / folder / name).iterdir())
        for folder in ("JPEGImages", "Annotations")
    )
    assert images == masks
    assert len(images) == (5 if name == "COCO" else 3)


def test_visor_goes_on_to_its_published_form(site: Site, tmp_path: Path) -> None:
    raw = fetch("visor_raw", site, tmp_path)
    for subset, count in (("train", 3), ("val", 2)):
        out = tmp_path / "visor"
        visor.run(
            annotations=raw / "annotations",
            images=raw / "frames",
            subset=subset,
            keep_all=None,
            size="854x480",
            out=out,
        )
        names = (out / "VISOR_2022" / "ImageSets" / "2022" / f"{subset}.txt").read_text().split()
        assert len(names) == 1
        for folder in ("JPEGImages", "Annotations"):
            assert len(list((out / "VISOR_2022" / folder / "480p" / names[0]).iterdir())) == count
