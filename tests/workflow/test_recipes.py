"""The chains of the published presets, small, from an empty folder to a table.

The presets are those of params/presets with fewer cells (tests/helpers/small_recipes.py). One run
of Snakemake takes all of them through every stage. The weights that published trainings start from
come from a web server on loopback.
"""

import csv
import hashlib
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from noisyvos import models
from noisyvos.io.hashing import file_hash
from noisyvos.io.masks import MaskCollection

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
import miniatures
from loopback import Site, serve
from miniatures import frame, mask, put
from published_archives import ARCHIVES, index_mask
from small_recipes import (
    MODELS,
    Trim,
    Workspace,
    merged,
    scribble,
    serve_archives,
    serve_weights,
    videos,
    workspace,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2400),  # the run of all chains is the setup of the first test
    pytest.mark.xdist_group("recipes"),
]

TRIMS = {
    "smart": Trim(
        {"all_released": {"evaluate": ["davis17_val"]}}, noise="morph_d_i1", method="smart_parity"
    ),
    "xmem": Trim(
        {
            "s012": {"evaluate": ["davis17_val", "davis17_test_dev"]},
            "s2": {"evaluate": ["davis17_test_dev"]},
        }
    ),
    "visor": Trim({"visor": {"evaluate": ["visor_sparse_val", "visor_sparse_val_unseen"]}}),
    "afb_urr": Trim(
        {
            "level1": {"evaluate": ["davis17_val"]},
            "level2": {"evaluate": ["youtube18_valid", "long_videos"]},
        }
    ),
    "aoc_net": Trim({"second": {"evaluate": ["ytvos_holdout"], "corruptions": []}}),
    "rhmnet": Trim(
        {"video": {"evaluate": ["davis16_val", "youtube19_valid"], "prompt_seed": [0, 1]}}
    ),
}
YOUTUBE = ("0a1b", "3c4d", "ff02")
LISTED = YOUTUBE[:2]  # by XMem's list


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        with serve() as running:
            yield running


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files that the server has: random weights in the form of the published ones."""
    from torchvision.models import resnet18, resnet50

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    still = models.build("xmem", seed=5, single_object=True, **_settings("xmem"))
    files = {"resnet50.pth": resnet50(), "resnet18.pth": resnet18(), "XMem-s0.pth": still}
    for name, network in files.items():
        torch.save(network.state_dict(), folder / name)
    return {name: folder / name for name in files}


def _settings(model: str) -> dict[str, int]:
    return {key: value for key, value in MODELS[model].items() if key != "kind"}


def place_material(raw: Path) -> None:
    """Put into data/raw what a person gets by hand, small."""
    miniatures.static(raw / "static")
    for video in ("a", "b"):
        for number in range(4):
            put(raw / "bl30k/JPEGImages" / video / f"{number:05d}.jpg", frame(number))
            put(raw / "bl30k/Annotations" / video / f"{number:05d}.png", mask(1, 2, step=number))
    for source in ("youtube18_train", "youtube19_train"):
        videos(raw / source, YOUTUBE)
    for source in ("youtube18_valid", "youtube19_valid"):
        miniatures.youtube_vos(raw / source)
    miniatures.long_videos(raw / "long_videos")
    _place_visor(raw / "visor_raw")
    _place_scribbles(raw)
    backbone = models.build("aoc_net", seed=4).state_dict()
    part = "feature_extracter."
    file = raw / "deeplab_r101" / "resnet101-deeplabv3p.pth.tar"
    file.parent.mkdir()
    kept = {name.removeprefix(part): each for name, each in backbone.items() if part in name}
    torch.save({"state_dict": kept}, file)


def _place_visor(root: Path) -> None:
    """Write VISOR's polygons and frames: train, and val in a seen and in an unseen kitchen."""
    box = [[200, 300], [900, 300], [900, 800], [200, 800]]
    hand = [[1000, 200], [1500, 200], [1400, 700]]
    shapes = [
        {"id": "1", "name": "pan", "segments": [box]},
        {"id": "2", "name": "left hand", "segments": [hand]},
    ]
    for subset, video in (("train", "P01_01"), ("val", "P02_01"), ("val", "P07_101")):
        entries = []
        for number in range(4):
            name = f"{video}_frame_{100 + 37 * number:010d}.jpg"
            put(root / "frames" / video / name, frame(number))
            image = {"image_path": f"{video}/{name}", "name": name, "video": video}
            image["subsequence"] = f"{video}_seq_00001"
            entries.append({"image": image, "annotations": shapes})
        put(root / "annotations" / subset / f"{video}.json", {"video_annotations": entries})


def _place_scribbles(raw: Path) -> None:
    """Write RHMNet's scribbles: of COCO images, DAVIS and YouTube-VOS."""
    rows = []
    for number in range(3):
        put(raw / f"rhmnet_coco/COCO/images/{number}.jpg", frame(number))
        scribble(raw / f"rhmnet_coco/COCO/scribbles/{number}.bmp", mask(1, 2, step=number))
        rows.append({"file_name": f"{number}.jpg", "anno_name": f"{number}.bmp", "num_objects": 3})
    put(raw / "rhmnet_coco/COCO/COCO_scribbles.json", {"images": rows})
    davis = raw / "rhmnet_davis/DAVIS"
    for name in ("bear", "boat"):
        for number in range(4):
            scribble(davis / f"train_scribbles/{name}/{number:05d}.bmp", index_mask(number))
    for number in range(5):
        scribble(davis / f"valid_scribbles{number}/cows.bmp", index_mask(0))
    youtube = raw / "rhmnet_youtube/Youtube-VOS"
    for name in YOUTUBE:
        for step in range(5):
            file = youtube / f"train_scribbles/{name}/{5 * step:05d}.bmp"
            scribble(file, mask(1, 2, step=step))
    scribble(youtube / "valid_scribbles/77aa/00000.bmp", mask(1, 2))
    scribble(youtube / "valid_scribbles/77aa/00010.bmp", mask(1, 2, step=2))


def prepared(base: Path, site: Site, weights: dict[str, Path], trims: dict[str, Trim]) -> Workspace:
    """Return a workspace with the merged presets, whose material can be fetched or is in place."""
    preset, networks = merged(trims)
    made = workspace(base, {"small": preset}, networks)
    lists = made.root / "src/noisyvos/datasets/lists"
    put(lists / "youtube_xmem.txt", "".join(f"{name}\n" for name in LISTED))
    sources = made.entries("sources")
    serve_archives(
        made, site, [name for name in ARCHIVES if name in sources and name != "visor_raw"]
    )
    for name, file in (
        ("imagenet_resnet50", "resnet50.pth"),
        ("imagenet_resnet18", "resnet18.pth"),
        ("xmem_release", "XMem-s0.pth"),
    ):
        if name in sources:
            serve_weights(made, site, name, {file: weights[file].read_bytes()})
    noise = made.entries("noise")
    if "drawn_prompt" in noise:  # DAVIS 2017 val is also of the other systems, without scribbles
        del noise["drawn_prompt"]["sets"]["davis17_val"]
        made.write("noise", noise)
    place_material(made.root / "data" / "raw")
    done = made.run("noisyvos", "grid", "--preset", "small")
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, site: Site, weights: dict[str, Path]
) -> Workspace:
    """All chains, from an empty folder to the table and the submissions."""
    made = prepared(tmp_path_factory.mktemp("recipes"), site, weights, TRIMS)
    done = made.run("snakemake", "--cores", "2", "all")
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    return made


def cell(stage: str, start: str, run: Workspace) -> Path:
    """Return the results of the one cell of a stage whose key has `start` in it."""
    (found,) = [
        each for each in (run.root / "results/small" / stage).iterdir() if start in each.name
    ]
    return found


def init_of(summary: Path) -> str:
    return str(json.loads(summary.read_text())["inputs"]["init"])


def weights_of(run: Workspace, folder: str, start: str) -> Path:
    places = (run.root / "runs/small" / folder).iterdir()
    (found,) = [each for each in places if start in each.name]
    return found / "weights.safetensors"


@pytest.mark.parametrize(
    ("training", "init"),
    [
        (("pretrain", "xmem_static"), ("start", "imagenet-xmem")),
        (("pretrain", "xmem_bl30k"), ("pretrain", "xmem_static")),
        (("train", "xmem_xmem-s0-s012"), ("pretrain", "xmem_bl30k")),
        (("train", "xmem_xmem-s0-s2"), ("start", "imagenet-xmem")),
        (("train", "smart_parity"), ("start", "xmem_s0-smart")),
        (("pretrain", "visor_coco"), ("start", "imagenet-visor")),
        (("train", "visor_stm"), ("pretrain", "visor_coco")),
        (("pretrain", "afb_urr_level0"), ("start", "imagenet-afb")),
        (("train", "davis17_train-clean-ce-afb"), ("pretrain", "afb_urr_level0")),
        (("train", "youtube18_train-clean-ce-afb"), ("pretrain", "afb_urr_level0")),
        (("pretrain", "aoc_net_first"), ("start", "deeplab")),
        (("train", "ce_aoc"), ("pretrain", "aoc_net_first")),
        (("pretrain", "rhmnet_coco"), ("start", "imagenet-rhmnet")),
        (("train", "drawn_train"), ("pretrain", "rhmnet_coco")),
    ],
)
def test_every_training_begins_with_the_weights_before_it(
    run: Workspace, training: tuple[str, str], init: tuple[str, str]
) -> None:
    summary = cell(*training, run) / "summary.json"
    given = weights_of(run, *init)
    assert init_of(summary) == file_hash(given)
    before, after = load_file(given), load_file(weights_of(run, *training))
    moved = [name for name, value in before.items() if not same(value, after.get(name))]
    assert moved, "the training changed nothing"


def same(one: torch.Tensor, other: torch.Tensor | None) -> bool:
    return other is not None and one.shape == other.shape and torch.equal(one, other)


def test_starts_hold_what_the_server_gave(run: Workspace, weights: dict[str, Path]) -> None:
    given = {name: torch.load(file, weights_only=True) for name, file in weights.items()}
    xmem = load_file(weights_of(run, "start", "imagenet-xmem"))
    assert torch.equal(xmem["key_encoder.conv1.weight"], given["resnet50.pth"]["conv1.weight"])
    value = xmem["value_encoder.conv1.weight"]
    assert torch.equal(value[:, :3], given["resnet18.pth"]["conv1.weight"])
    smart, still = load_file(weights_of(run, "start", "xmem_s0-smart")), given["XMem-s0.pth"]
    assert torch.equal(smart["decoder.pred.weight"], still["decoder.pred.weight"])
    assert smart["value_encoder.conv1.weight"].shape[1] == 5
    aoc = load_file(weights_of(run, "start", "deeplab"))
    released = run.root / "data/raw/deeplab_r101/resnet101-deeplabv3p.pth.tar"
    backbone = torch.load(released, weights_only=True)
    name = "backbone.layer3.22.conv1.weight"
    assert torch.equal(aoc[f"feature_extracter.{name}"], backbone["state_dict"][name])


def test_every_chain_is_in_the_tables(run: Workspace) -> None:
    tables = run.root / "results/small/tables"
    with (tables / "cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    trained = {(row["evaluation"], row["model"]) for row in rows if row["role"] == "trained"}
    assert trained == {
        ("davis17_val", "smart_xmem"),
        ("davis17_val", "xmem_xmem"),
        ("davis17_val", "afb_urr_afb_urr"),
        ("long_videos", "afb_urr_afb_urr"),
        ("visor_sparse_val", "visor_stm"),
        ("visor_sparse_val_unseen", "visor_stm"),
        ("ytvos_holdout", "aoc_net_aoc_net"),
        ("davis16_val", "rhmnet_rhmnet"),
    }
    # stage 1 of VISOR is its own row
    assert "pretrained" in (tables / "scores-visor_sparse_val.csv").read_text()
    unseen = run.root / "results/small/scores/first_mask-visor_sparse_val_unseen/objects.csv"
    assert {line.split(",")[0] for line in unseen.read_text().splitlines()[1:]} == {
        "P07_101_seq_00001"
    }


def test_two_drawn_sets_give_a_mean_and_a_spread(run: Workspace) -> None:
    with (run.root / "results/small/tables/prompts-davis16_val.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["prompt"] == "drawn_prompt"]
    assert {row["draws"] for row in rows} == {"2"}
    assert all(float(row["spread"]) >= 0 for row in rows)
    labels = MaskCollection(run.root / "data/noisy/davis16_val-drawn_prompt-s1.zip")
    assert set(np.unique(labels.read("cows", "00000"))) == {0, 1, 255}  # objects joined


@pytest.mark.parametrize(
    ("dataset", "trainings", "files"),
    [
        ("davis17_test_dev", 2, {"aerobatics/00001.png", "car-race/00003.png"}),
        ("youtube18_valid", 1, {"Annotations/77aa/00005.png"}),
        ("youtube19_valid", 1, {"Annotations/77aa/00010.png"}),
    ],
)
def test_sets_without_public_truth_are_packed_for_their_server(
    run: Workspace, dataset: str, trainings: int, files: set[str]
) -> None:
    found = list((run.root / "results/small/submissions").glob(f"*-{dataset}.zip"))
    assert len(found) == trainings
    for path in found:
        assert files <= set(zipfile.ZipFile(path).namelist())
    assert not (run.root / f"results/small/tables/scores-{dataset}.csv").exists()


def test_nothing_is_left_to_do(run: Workspace) -> None:
    done = run.run("snakemake", "-n", "all")
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr


def test_dvc_makes_the_same_of_a_chain(
    run: Workspace, tmp_path: Path, site: Site, weights: dict[str, Path]
) -> None:
    made = prepared(tmp_path, site, weights, {"visor": TRIMS["visor"]})
    assert made.run("git", "init", "--quiet").returncode == 0
    done = made.run("dvc", "repro", "tables")
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    for scores in (made.root / "results/small/scores").iterdir():
        theirs = run.root / "results/small/scores" / scores.name
        for file in ("objects.csv", "frames.csv"):
            assert (scores / file).read_bytes() == (theirs / file).read_bytes(), scores.name
    assert (made.root / "results/small/tables/scores-visor_sparse_val.md").is_file()


def test_faults_of_the_server_end_before_any_training(
    tmp_path: Path, site: Site, weights: dict[str, Path]
) -> None:
    """Each start has its source: a short file, a cut one, another sum, a page."""
    good = weights["XMem-s0.pth"].read_bytes()
    trim = Trim({"davis_released": {"evaluate": ["davis17_val"]}}, "clean", "smart_parity")
    preset = merged({"smart": trim})[0]
    (block,) = preset["blocks"].values()
    faults = ("short", "cut", "sum", "page")
    preset["starts"] = {f"of_{fault}": f"from_{fault}" for fault in faults}
    block["model"] = list(preset["starts"])
    for place in preset["evaluate"].values():
        place["settings"] = "published"
    starts = {
        f"from_{fault}": {"kind": "checkpoint", "source": f"release_{fault}"} for fault in faults
    }
    made = workspace(
        tmp_path, {"small": preset}, dict.fromkeys(preset["starts"], "xmem"), starts=starts
    )
    sources, files = made.entries("sources"), {}
    for fault in faults:
        sources[f"release_{fault}"] = {
            "kind": "archives",
            "about": "weights",
            "url": "",
            "licence": "",
            "files": [{"url": site.url(f"faults/{fault}.pth"), "unpack": "none"}],
            "wants": [{"path": "*.pth"}],
        }
        files[fault] = sources[f"release_{fault}"]["files"][0]
    site.url("faults/short.pth", good[:1000])
    files["short"]["size"] = len(good)
    site.url("faults/cut.pth", good[: len(good) // 2])
    site.url("faults/sum.pth", good[:-1] + b"x")
    files["sum"]["sha256"] = hashlib.sha256(good).hexdigest()
    site.url("faults/page.pth", b"<!DOCTYPE html><html><body>Quota exceeded</body></html>")
    made.write("sources", sources)
    serve_archives(made, site, ["davis17"])
    assert made.run("noisyvos", "grid", "--preset", "small").returncode == 0
    grid = made.entries("cells")
    wanted = [f"runs/small/train/{key}/weights.safetensors" for key in grid["train"]]
    assert len(wanted) == len(faults)
    done = made.run("snakemake", "--cores", "2", "-k", *wanted)
    assert done.returncode != 0
    assert not list((made.root / "runs").rglob("*.safetensors"))
    assert not (made.root / "logs/train").exists()
    said = {
        fault: (made.root / f"logs/download/release_{fault}.log").read_text() for fault in faults
    }
    said["cut"] = (made.root / "logs/start_from/from_cut-of_cut-s0.log").read_text()
    for fault, message in {
        "short": "bytes",
        "cut": "cut.pth",
        "sum": "the sha256 of this file is",
        "page": "page",
    }.items():
        last = said[fault].strip().splitlines()[-1]
        assert message in last, f"{fault}: {said[fault]}"
        assert "Traceback" not in said[fault]
