"""The grid: from presets to cells."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest

from noisyvos.datasets.base import DATASETS, DRAWN, keeps_links
from noisyvos.errors import UserError
from noisyvos.params.entries import read_yaml
from noisyvos.params.presets import Preset, read_preset
from noisyvos.pipeline import code_deps, grid
from noisyvos.pipeline.code_deps import CODE_FILE
from noisyvos.pipeline.estimate import describe

PARAMS = Path(__file__).resolve().parents[3] / "params"


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """A copy of the parameter files."""
    return Path(shutil.copytree(PARAMS, tmp_path / "params"))


def cells_of(name: str) -> dict[str, Any]:
    return grid.expand(read_preset(PARAMS, name), grid.Catalogue(PARAMS))


@pytest.mark.parametrize(
    ("preset", "training"),
    [
        ("smoke", 4),
        ("demo", 16),
        ("sweep", 84),
        ("lite", 105),
        ("gpu_micro", 6),
        ("clips", 12),
        ("paper", 1236),
        ("paper_more", 234),
        ("controls", 12),
        ("hypotheses", 264),
    ],
)
def test_number_of_training_cells(preset: str, training: int) -> None:
    assert len(cells_of(preset)["train"]) == training
    assert f"training cells: {training}\n" in describe(preset, PARAMS) + "\n"


def test_keys_name_every_axis() -> None:
    cells = cells_of("smoke")
    assert list(cells["train"])[:2] == [
        "shapes_smoke_train-clean-xmem-xmem_tiny-s0",
        "shapes_smoke_train-clean-smart_unit-xmem_tiny-s0",
    ]
    assert list(cells["noise"]) == ["shapes_smoke_train-clean", "shapes_smoke_train-dilate70-s0"]
    assert list(cells["pretrain"]) == ["pretrain-xmem_tiny-s0"]
    assert (
        cells["train"]["shapes_smoke_train-dilate70-xmem-xmem_tiny-s0"]["noise_key"]
        == "shapes_smoke_train-dilate70-s0"
    )


def test_clean_labels_are_shared_by_all_seeds() -> None:
    cells = cells_of("demo")
    used = {cell["noise_key"] for cell in cells["train"].values() if cell["noise"] == "clean"}
    assert used == {"shapes_train-clean"}


@pytest.mark.parametrize(
    "preset", ["smoke", "demo", "sweep", "clips", "lite", "gpu_micro", "paper"]
)
def test_baselines_stand_in_every_preset_and_every_cell_finds_what_it_needs(preset: str) -> None:
    cells = cells_of(preset)
    roles = [cell["role"] for cell in cells["score"].values()]
    evaluations = {cell["evaluation"] for cell in cells["score"].values()}
    assert roles.count("first_mask") == len(evaluations)
    scored = list(cells["score"].values())
    for evaluation in evaluations:
        trained = [
            cell["train_key"]
            for cell in scored
            if cell.get("train_key") and cell["evaluation"] == evaluation
        ]
        pretrained = [
            cell["run"]
            for cell in scored
            if cell["role"] == "pretrained" and cell["evaluation"] == evaluation
        ]
        inits = {cells["train"][key]["init"] for key in trained}
        assert {f"pretrain/{key}" for key in pretrained} == inits
    assert {cell.get("train_key") for cell in scored} - {None} == set(cells["train"])
    for ending in ("", "_disturbed"):
        predicting = [set(cells[f"{stage}{ending}"]) for stage in ("infer", "baseline")]
        assert set(cells[f"score{ending}"]) == set().union(*predicting)
        assert len(cells[f"score{ending}"]) == sum(map(len, predicting))
    for cell in cells["train"].values():
        assert cell["noise_key"] in cells["noise"]
        folder, _, start = cell["init"].partition("/")
        stages = grid.PRETRAINING if folder == "pretrain" else ("start", "start_from")
        assert any(start in cells[stage] for stage in stages)
        assert any(cell["dataset"] in cells[stage] for stage in ("convert", "link", "mix"))
    for cell in cells["mix"].values():
        parts = {cell[f"part{number}"] for number in (1, 2, 3, 4)}
        assert parts <= {*cells["convert"], *cells["link"]}
    for cell in cells["infer"].values():
        folder, key = cell["weights"].split("/")
        stages = {"pretrain": grid.PRETRAINING, "train": ("train",), "start": ("start_from",)}
        assert any(key in cells[stage] for stage in stages[folder])
    for cell in [*cells["convert"].values(), *cells["link"].values()]:
        assert (cell["source"] in cells["generate"]) != (cell["source"] in cells["download"])


def code_of(stage: str) -> list[str]:
    """Return the names in data/code.json that a stage of dvc.yaml depends on."""
    content = read_yaml(PARAMS.parent / "dvc.yaml")["stages"][stage]
    params = content.get("do", content)["params"]
    return next(names for entry in params for file, names in entry.items() if file == CODE_FILE)


def test_every_stage_depends_on_its_code_and_on_that_of_the_kinds_it_names() -> None:
    assert code_of("infer") == ["stages.infer", "models.${item.model}"]
    assert code_of("infer_disturbed") == [
        "stages.infer_disturbed",
        "models.${item.model}",
        *(
            f"${{item.family{place}}}.${{item.name{place}}}"
            for place in range(1, grid.CORRUPTIONS_AT_MOST + 1)
        ),
    ]
    assert code_of("baseline_disturbed") == code_of("baseline") == ["stages.baseline"]
    assert code_of("score_disturbed") == code_of("score") == ["stages.score"]
    assert code_of("mix") == code_of("link") == code_of("convert")
    for stage in (*grid.STAGES, "tables", "figures", "report"):
        own, *entries = code_of(stage)
        about = code_deps.STAGES[own.removeprefix("stages.")][1]
        families = [name.partition(".")[0] for name in entries if "family" not in name]
        if len(families) < len(entries):  # places of corruptions
            families.append("corruptions")
        assert families == list(about.families), stage


def test_the_stage_of_code_depends_on_all_that_its_file_comes_from() -> None:
    deps = read_yaml(PARAMS.parent / "dvc.yaml")["stages"]["code"]["deps"]
    families = {family for _, about in code_deps.STAGES.values() for family in about.families}
    assert set(deps) == {"src/noisyvos", *(f"params/{family}.yaml" for family in families)}


def test_a_mix_is_made_of_its_converted_parts() -> None:
    cells = cells_of("paper")
    (mix,) = [cell for name, cell in cells["mix"].items() if name == "davis17_ytvos19_train"]
    assert [mix[f"part{number}"] for number in (1, 2, 3, 4)] == [
        "davis17_train",
        *["youtube19_train_rest"] * 3,
    ]
    assert {"davis17", "youtube19_train"} < set(cells["download"])
    assert not set(cells["mix"]) & {*cells["convert"], *cells["link"]}


def test_datasets_of_links_are_apart_from_those_of_files() -> None:
    cells = cells_of("paper")
    assert {"davis17_val", "davis17_train"} < set(cells["link"])
    assert {"youtube19_train_rest", "ytvos_holdout"} < set(cells["convert"])
    assert not set(cells["link"]) & set(cells["convert"])
    entries = read_yaml(PARAMS / "datasets.yaml")
    assert not keeps_links(entries["visor_sparse_val"])  # its frames are drawn anew
    drawn = [item.name for item in DATASETS if not getattr(item.settings, "links", True)]
    assert drawn == list(DRAWN)
    assert keeps_links(entries["davis17_val"])
    assert not keeps_links(entries["youtube19_train"])  # has a `size`
    stages = read_yaml(PARAMS.parent / "dvc.yaml")["stages"]
    cached = {
        stage: [not isinstance(out, dict) for out in stages[stage]["do"]["outs"]]
        for stage in ("convert", "link", "mix")
    }
    assert cached == {"convert": [True], "link": [False], "mix": [False]}


def test_an_evaluation_set_may_have_a_protocol_of_its_own() -> None:
    cells = cells_of("paper")
    protocols = {"davis17_val": "davis", "davis16_val": "davis", "ytvos_holdout": "youtube_vos"}
    protocols["tao_valid"] = "davis"
    assert {(cell["evaluation"], cell["protocol"]) for cell in cells["score"].values()} == set(
        protocols.items()
    )
    held_out = [
        key
        for key, cell in cells["score"].items()
        if cell["evaluation"] == "ytvos_holdout" and cell["role"] == "trained"
    ]
    assert len(held_out) == 1203, "the block on TAO is scored on TAO alone"


def test_noisy_prompts_are_given_to_the_blocks_that_ask_and_to_the_baselines() -> None:
    values = read_preset(PARAMS, "smoke").model_dump()
    values["blocks"]["more"] = copy.deepcopy(values["blocks"]["core"]) | {
        "noise": ("mix70",),
        "prompts": ("mix80", "dilate80"),
    }
    cells = grid.expand(Preset(**values), grid.Catalogue(PARAMS))
    runs = {f"prompt_{noise}80": {"prompt": f"{noise}80"} for noise in ("mix", "dilate")}
    first = "first_mask-shapes_smoke_val"
    assert list(cells["baseline_disturbed"]) == [first]
    assert cells["score_disturbed"][first]["runs"] == runs
    trained = [key for key in cells["infer_disturbed"] if not key.startswith("pretrained-")]
    assert len(trained) == 2
    assert all("-mix70-" in key for key in trained)
    key = "shapes_smoke_train-mix70-xmem-xmem_tiny-s0-shapes_smoke_val"
    cell = cells["infer_disturbed"][key]
    mixed, dilated = (
        f"data/noisy/shapes_smoke_val-{noise}80-s0.zip" for noise in ("mix", "dilate")
    )
    assert cells["infer"][key].items() <= cell.items()
    assert cell["disturb"] == (
        f"--disturb prompt_mix80={mixed} --disturb prompt_dilate80={dilated}"
    )
    assert [cell[f"given{place}"] for place in range(1, 7)] == [mixed] + 5 * [dilated]
    assert {(cell[f"family{place}"], cell[f"name{place}"]) for place in range(1, 13)} == {
        ("models", "xmem_tiny")
    }, "places of corruptions that nothing asks for"
    assert cells["noise"]["shapes_smoke_val-mix80-s0"]["dataset"] == "shapes_smoke_val"
    scored = cells["score_disturbed"][key]
    assert scored == cells["score"][key] | {"clean_key": key, "runs": runs}


def test_prompts_of_several_seeds_are_several_sets() -> None:
    values = read_preset(PARAMS, "smoke").model_dump()
    values["blocks"]["core"] |= {"prompts": ("strokes_prompt",), "prompt_seed": (0, 3)}
    cells = grid.expand(Preset(**values), grid.Catalogue(PARAMS))
    drawn = "shapes_smoke_val-strokes_prompt"
    for cell in cells["infer_disturbed"].values():
        assert [cell["given1"], cell["given2"]] == [
            f"data/noisy/{drawn}-s{seed}.zip" for seed in (0, 3)
        ]
    assert cells["noise"][f"{drawn}-s3"]["seed"] == 3
    assert cells["score_disturbed"]["first_mask-shapes_smoke_val"]["runs"] == {
        "prompt_strokes_prompt": {"prompt": "strokes_prompt"},
        "prompt_strokes_prompt-p3": {"prompt": "strokes_prompt", "prompt_seed": 3},
    }


def test_more_prompts_than_a_job_has_places_for_make_a_second_job() -> None:
    values = read_preset(PARAMS, "smoke").model_dump()
    values["blocks"]["core"] |= {"prompts": ("mix80",), "prompt_seed": tuple(range(8))}
    values["blocks"]["core"]["corruptions"] = ("blur9",)
    cells = grid.expand(Preset(**values), grid.Catalogue(PARAMS))
    key = "shapes_smoke_train-clean-xmem-xmem_tiny-s0-shapes_smoke_val"
    first, second = (cells["score_disturbed"][each]["runs"] for each in (key, f"{key}-2"))
    assert list(first) == [
        "prompt_mix80",
        *(f"prompt_mix80-p{seed}" for seed in range(1, 6)),
        "corruption_blur9",
    ]
    assert list(second) == ["prompt_mix80-p6", "prompt_mix80-p7"]
    assert cells["infer_disturbed"][f"{key}-2"]["weights"] == cells["infer"][key]["weights"]


def test_drawn_scribbles_are_read_from_their_sources() -> None:
    cells = cells_of("rhmnet")
    assert cells["scribbles"]["davis17_ytvos19_stm-drawn_train"] == {
        "dataset": "davis17_ytvos19_stm",
        "noise": "drawn_train",
        "seed": 0,
        "source1": "rhmnet_davis",
        "source2": "rhmnet_youtube",
    }
    five = [f"davis17_val-drawn_prompt-s{number}" for number in range(5)]
    assert set(five) < set(cells["scribbles"])
    assert set(cells["noise"]) == {"rhmnet_coco-clean"}
    assert {"rhmnet_coco", "rhmnet_davis", "rhmnet_youtube"} < set(cells["download"])
    (trained,) = cells["train"]
    prompted = cells["infer_disturbed"][f"{trained}-davis17_val"]
    assert [prompted[f"given{place}"] for place in range(1, 6)] == [
        f"data/noisy/{key}.zip" for key in five
    ]
    # a set whose result is submitted is segmented from the scribbles themselves
    submitted = f"{trained}-youtube19_valid"
    assert set(cells["submit"]) == {submitted, f"{trained}-youtube18_valid"}
    assert cells["infer_noisy"][submitted]["prompts"] == "youtube19_valid-drawn_prompt"
    assert submitted not in cells["infer"]


def test_drawn_scribbles_that_a_dataset_lacks(params: Path) -> None:
    values = read_preset(PARAMS, "rhmnet").model_dump()
    values["blocks"]["video"]["dataset"] = "visor_sparse_train"
    with pytest.raises(UserError, match="drawn_train: `sets` names no scribbles of 'visor_sparse"):
        grid.expand(Preset(**values), grid.Catalogue(PARAMS))
    values = read_preset(PARAMS, "rhmnet").model_dump()
    values["evaluate"]["tao_valid"] = {}  # drawn prompts are given where they exist
    cells = grid.expand(Preset(**values), grid.Catalogue(PARAMS))
    assert not [key for key in cells["infer_disturbed"] if "tao_valid" in key]
    assert [key for key in cells["infer"] if "tao_valid" in key]


def test_a_cell_of_two_blocks_is_run_once() -> None:
    values = read_preset(PARAMS, "smoke").model_dump()
    values["blocks"]["again"] = copy.deepcopy(values["blocks"]["core"]) | {
        "noise": ("dilate70", "mix70")
    }
    cells = grid.expand(Preset(**values), grid.Catalogue(PARAMS))
    assert len(cells["train"]) == 6
    assert cells["train"]["shapes_smoke_train-dilate70-xmem-xmem_tiny-s0"]["blocks"] == [
        "core",
        "again",
    ]


def test_blocks_that_train_one_cell_differently_are_refused() -> None:
    values = read_preset(PARAMS, "smoke").model_dump()
    values["blocks"]["again"] = copy.deepcopy(values["blocks"]["core"]) | {"schedule": "demo_main"}
    with pytest.raises(UserError, match="different settings"):
        grid.expand(Preset(**values), grid.Catalogue(PARAMS))


def test_plan_of_the_full_grid_counts_its_blocks() -> None:
    said = describe("paper", PARAMS)
    for block, count in {
        "parity": 126,
        "core": 429,
        "realistic": 225,
        "instance": 156,
        "ablation": 126,
        "real": 33,
        "temporal": 54,
    }.items():
        assert f"  {block:<12} {count:>5} training cells" in said


def test_corrupted_images_are_shown_to_the_blocks_that_ask_and_to_pretrained_networks() -> None:
    values = read_preset(PARAMS, "smoke").model_dump()
    values["blocks"]["core"]["corruptions"] = ("noise10", "blur9")
    cells = grid.expand(Preset(**values), grid.Catalogue(PARAMS))
    assert set(cells["infer_disturbed"]) == set(cells["infer"])
    assert not cells["baseline_disturbed"], "a copied mask sees no image"
    key = next(key for key in cells["infer"] if not key.startswith("pretrained"))
    cell = cells["infer_disturbed"][key]
    assert cell["disturb"] == "--disturb corruption_noise10 --disturb corruption_blur9"
    assert [(cell[f"family{place}"], cell[f"name{place}"]) for place in (1, 2, 12)] == [
        ("corruptions", "noise10"),
        ("corruptions", "blur9"),
        ("corruptions", "blur9"),
    ]
    assert cell["given1"] == cell["given6"] == "data/converted/shapes_smoke_val"
    assert cells["score_disturbed"][key]["runs"] == {
        "corruption_noise10": {"corruption": "noise10"},
        "corruption_blur9": {"corruption": "blur9"},
    }
