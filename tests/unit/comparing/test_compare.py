"""Someone's own method: what is refused before a run, where its cells go, and its tests."""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from noisyvos import extension
from noisyvos.analysis.questions import differences
from noisyvos.analysis.results import Results
from noisyvos.comparing import compare
from noisyvos.comparing.checks import check_method, check_name
from noisyvos.errors import UserError
from noisyvos.methods.base import METHODS
from noisyvos.params.entries import read_entries
from noisyvos.pipeline import code_deps
from noisyvos.pipeline.cells import cells_file, load_cells
from noisyvos.pipeline.dvc_yaml import load
from noisyvos.pipeline.outside import only_method, own_places

ROOT = Path(__file__).resolve().parents[3]
TUTORIAL = ROOT / "docs" / "tutorials" / "own-method.md"
FILE = """
from noisyvos.methods.base import METHODS, Method
from noisyvos.registry import Settings


class MineSettings(Settings):
    weight: float = 1.0


@METHODS.register("mine", MineSettings)
class Mine(Method):
    def terms(self, logits, target, *, num_objects, teacher_logits=None, iteration=0):
        {body}
"""
GOOD = 'return {"total": (logits.square().mean(1) * (target != 255)).mean(), "top_p": 1.0}'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my method.py"
    path.write_text(FILE.format(body=GOOD))
    return path


@pytest.fixture
def outside(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The method is in the environment, as in a run of `noisyvos compare`."""
    monkeypatch.setenv(extension.VARIABLE, str(file))
    before = dict(METHODS._items)
    monkeypatch.setattr(METHODS, "_loaded", False)
    load.cache_clear()
    yield file
    load.cache_clear()
    METHODS._items.clear()
    METHODS._items.update(before)
    extension.sys.modules.pop(extension.MODULE, None)


def code_of_tutorial() -> str:
    found = re.search(r"```python\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "must register one method"),
        ("def f(:", "this is not Python"),
        ('METHODS.register("a")(1)\nMETHODS.register("b")(2)', "found: a, b"),
        ('METHODS.register("xmem")(1)', "there is a method 'xmem' already"),
        ('METHODS.register("smart_unit")(1)', "there is a method 'smart_unit' already"),
        ('METHODS.register("My-Method")(1)', "may have only lower-case letters"),
    ],
)
def test_files_that_cannot_be_compared_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(said)):
        check_name(path, ROOT / "params")
    with pytest.raises(UserError, match="no such file"):
        check_name(tmp_path / "other.py", ROOT / "params")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return logits[0, 7]", "`terms` of method 'mine' fails: IndexError"),
        ("return logits.sum()", "must return a dict whose `total` is a scalar"),
        ('return {"total": logits, "top_p": 1.0}', "must return a dict whose `total`"),
        ('return {"total": logits.sum().detach(), "top_p": 1.0}', "depends on the logits"),
        ('return {"total": logits.square().sum()}', "must return `top_p`"),
        ('return {"total": logits.sum() / 0, "top_p": 1.0}', "that is not finite"),
        ('return {"total": logits.square().sum(), "top_p": 1.0}', "with the label 255"),
    ],
)
def test_methods_that_cannot_work_are_refused(outside: Path, body: str, said: str) -> None:
    outside.write_text(FILE.format(body=body))
    with pytest.raises(UserError, match=re.escape(said)):
        check_method(outside, "mine")


def test_a_file_that_fails_when_imported_says_why(outside: Path) -> None:
    outside.write_text('raise RuntimeError("no licence")\nMETHODS.register("mine")')
    with pytest.raises(UserError, match="the file fails: RuntimeError: no licence"):
        check_method(outside, "mine")


def test_the_method_of_the_tutorial_passes(outside: Path) -> None:
    outside.write_text(code_of_tutorial())
    assert check_name(outside, ROOT / "params") == "focal"
    check_method(outside, "focal")


def test_the_method_is_one_more_entry_and_module(outside: Path) -> None:
    entry = read_entries(ROOT / "params", "methods")["mine"]
    assert (entry.kind, entry.settings) == ("mine", {})
    assert extension.MODULE in code_deps.modules_of("methods.mine", ROOT / "params")
    first = code_deps.code().table(ROOT / "params")["methods"]
    outside.write_text(FILE.format(body=GOOD.replace("square", "abs")))
    second = code_deps.code().table(ROOT / "params")["methods"]
    assert first["mine"] != second["mine"]
    assert {name for name in first if first[name] != second[name]} == {"mine"}


def test_without_the_environment_there_is_no_trace_of_it(file: Path) -> None:
    assert "mine" not in read_entries(ROOT / "params", "methods")
    assert extension.method_file() is None


def test_its_cells_are_those_of_every_condition_in_folders_apart(
    outside: Path, tmp_path: Path
) -> None:
    pipeline = load(ROOT, "smoke")
    assert list(pipeline.jobs["train"]) == [
        f"shapes_smoke_train-{noise}-mine-xmem_tiny-s0" for noise in ("clean", "dilate70")
    ]
    outs = pipeline.outputs(["train", "infer", "score"])
    assert all("/smoke/compare/mine/" in out for out in outs)
    job = next(iter(pipeline.jobs["train"].values()))
    assert "runs/smoke/pretrain/pretrain-xmem_tiny-s0/weights.safetensors" in job.deps
    assert f"--weights runs/smoke/compare/mine/train/{job.key}/weights.safetensors" in job.command
    assert pipeline["train"].outs[0] == "runs/smoke/compare/mine/train/{key}/weights.safetensors"
    assert '"methods.mine": "' in pipeline.tracked(job)  # an edit of the file trains again
    assert cells_file(ROOT / "params", "smoke").name == "smoke-with-mine.yaml"


def test_cells_of_the_preset_are_as_without_it(
    file: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extended = load_cells(ROOT / "params", "smoke")
    monkeypatch.delenv(extension.VARIABLE)
    plain = load_cells(ROOT / "params", "smoke")
    assert plain["train"].items() <= extended["train"].items()
    assert len(extended["train"]) == len(plain["train"]) + 2


def test_a_preset_of_published_quirks_alone_is_refused(outside: Path) -> None:
    with pytest.raises(UserError, match="no block of corrected methods"):
        load_cells(parity_params(outside.parent), "quirks")


def parity_params(folder: Path) -> Path:
    """Return a copy of params/ with one more preset, whose methods have `parity: true`."""
    import shutil

    params = folder / "params"
    shutil.copytree(ROOT / "params", params)
    text = (params / "presets" / "smoke.yaml").read_text()
    (params / "presets" / "quirks.yaml").write_text(text.replace("[xmem, smart_unit]", "[quirky]"))
    with (params / "methods.yaml").open("a") as methods:
        methods.write("\nquirky: {kind: smart, preset: released, parity: true}\n")
    return params


def test_paths_of_the_preset_are_moved_and_no_others() -> None:
    place = own_places("demo", "mine")
    assert place("runs/demo/train/a/w.bin results/demo/tables") == (
        "runs/demo/compare/mine/train/a/w.bin results/demo/compare/mine/tables"
    )
    for text in (
        "runs/demo/pretrain/train/w.bin",
        "runs/demo2/train/a",
        "data/runs_of/demo/train",
        "results/demo/trainings",
        "runs/demo/compare/mine/train/a",
    ):
        assert place(text) == text


def test_only_what_one_method_needs_is_left() -> None:
    cells = {
        "train": {"a": {"method": "mine"}, "b": {"method": "xmem"}},
        "baseline": {"first_mask": {}},
        "infer": {"p": {"weights": "pretrain/x"}, "a": {"weights": "train/a"}},
        "infer_disturbed": {"b": {"weights": "train/b"}},
        "score": {"a-val": {"train_key": "a"}, "b-val": {"train_key": "b"}, "p": {}},
        "submit": {"a": {"run": "a"}, "b": {"run": "b"}},
        "noise": {"clean": {}},
    }
    assert only_method(cells, "mine") == {
        "train": {"a": {"method": "mine"}},
        "baseline": {},
        "infer": {"a": {"weights": "train/a"}},
        "infer_disturbed": {},
        "score": {"a-val": {"train_key": "a"}},
        "submit": {"a": {"run": "a"}},
        "noise": {"clean": {}},
    }


def test_methods_without_scores_are_left_out() -> None:
    train = {method: {"method": method, "blocks": ["core"]} for method in ("xmem", "smart", "mine")}
    score = {f"{method}-val": {"train_key": method} for method in train} | {"first": {}}
    preset = {"name": "p", "references": {"core": "xmem"}}
    cells = {"preset": preset, "train": train, "score": score, "score_disturbed": {}}
    found = compare.compared_cells(cells, "mine", scored={"smart"})
    assert list(found["train"]) == ["smart", "mine"]
    assert list(found["score"]) == ["smart-val", "mine-val", "first"]
    assert found["preset"]["references"] == {"core": "mine"}  # the reference is not trained
    found = compare.compared_cells(cells, "mine", scored={"smart", "xmem"})
    assert found["preset"]["references"] == {"core": "xmem"}


def test_tests_are_the_method_minus_each_other_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    row = {"block": "core", "noise": "clean", "method": "xmem", "reference": "mine"}
    numbers = {"difference": 4.0, "p_sign_flip": 0.01, "p_holm": 0.02, "p_equivalence": 1.0}
    bounds = {"low": 1.0, "high": 6.0, "sequences_low": 2.0, "sequences_high": 5.0}
    bounds |= {"seeds_low": 3.0, "seeds_high": 4.5}
    table = pd.DataFrame([row | numbers | bounds])
    seen = {}

    def planted(scores: object) -> pd.DataFrame:
        seen["references"] = scores.results.preset["references"]  # type: ignore[attr-defined]
        return table.copy()

    class Scores:
        def __init__(self, results: Results, evaluation: str) -> None:
            self.results = results

    monkeypatch.setattr(compare, "difference_table", planted)
    monkeypatch.setattr(compare, "ScoreTables", Scores)
    cells = {"preset": {"name": "p", "references": {"core": "xmem"}}}
    found = compare.paired(Results(cells, tmp_path, tmp_path, tmp_path), "val", "mine").iloc[0]
    assert seen["references"] == {"core": "mine"}
    assert (found["method"], found["reference"]) == ("mine", "xmem")
    assert (found["difference"], found["low"], found["high"]) == (-4.0, -6.0, -1.0)
    assert (found["sequences_low"], found["sequences_high"]) == (-5.0, -2.0)
    assert (found["seeds_low"], found["seeds_high"]) == (-4.5, -3.0)
    assert (found["p_holm"], found["verdict"]) == (0.02, "lower")
    assert differences.verdict(table.iloc[0]) == "higher"


@pytest.mark.parametrize(
    ("options", "dry"),
    [
        (["--cores", "8", "--dry-run"], True),
        (["--dryrun"], True),
        (["-n"], True),
        (["-np"], True),
        (["--cores", "8"], False),
        (["-call", "-Rnoise", "--nolock"], False),
    ],
)
def test_a_dry_run_is_known_by_snakemakes_options(options: list[str], dry: bool) -> None:
    assert compare.dry_run(options) == dry


def test_a_dry_run_writes_nothing(
    outside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []
    monkeypatch.setattr(compare, "check_method", lambda *_: None)
    monkeypatch.setattr(compare, "scored_trainings", lambda _: {"any"})
    monkeypatch.setattr(compare, "_train", lambda *words: asked.append(words[-1]))
    monkeypatch.setattr(compare.code_deps, "refresh", lambda *_: {})
    for later in ("_warn", "_collect", "_report"):
        monkeypatch.setattr(compare, later, pytest.fail)
    assert compare.run(outside, preset="demo", options=["-n"], root=ROOT) is None
    assert asked == [["-n"]]
    assert "Nothing was trained or written" in capsys.readouterr().out
