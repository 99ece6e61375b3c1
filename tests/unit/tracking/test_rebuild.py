"""`track` makes again, from files alone, what a normal run has left in MLflow."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from noisyvos.analysis.results import Results
from noisyvos.tracking import mlflow as tracking
from noisyvos.tracking import store as stores
from noisyvos.tracking.publish import publish

pytest.importorskip("mlflow")

START = "pretrain-tiny-s0"
LOSSES = (0.9, 0.71234567891, 0.5)
JF = {("xmem", 0): 0.6, ("xmem", 1): 0.64, ("smart", 0): 0.7, ("smart", 1): 0.66}


def train(folder: str, cell: str, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Train a cell as the stage does: weights, summary and curve, tracked."""
    weights = Path("runs/p") / folder / cell / "weights.safetensors"
    place = Path("results/p") / folder / cell
    for path in (weights.parent, place):
        path.mkdir(parents=True)
    origin = {"inputs": {role: f"{role:x<64}" for role in inputs}, "code": "c0de"}
    with tracking.run(
        cell=cell,
        preset="p",
        stage=settings["stage"],
        params=settings,
        origin=origin,
        sources={role: str(path) for role, path in inputs.items()},
        journal=weights.with_name("journal.jsonl"),
    ) as track:
        stage = settings["stage"]
        for step, loss in enumerate(LOSSES, start=1):
            track.metrics({f"{stage}/loss": loss, "gradient/norm": 2 * loss}, 10 * step)
        track.metrics({"speed/iterations_per_second": 4.2}, 30)
        weights.write_text(f"weights of {cell}")
        rows = [f"{10 * step},{loss:.8g}\n" for step, loss in enumerate(LOSSES, start=1)]
        (place / "curve.csv").write_text("iteration,loss\n" + "".join(rows))
        summary = settings | origin | {"cell": cell, "final": {"loss": LOSSES[-1]}, "preset": "p"}
        (place / "summary.json").write_text(json.dumps(summary))


def score(cell: str, jf: float) -> None:
    """Write the scores of a cell."""
    folder = Path("results/p/scores") / cell
    folder.mkdir(parents=True)
    rows = "".join(f"v,{i},{jf},{jf}\n" for i in (1, 2))
    (folder / "objects.csv").write_text("sequence,object,J-Mean,F-Mean\n" + rows)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> tuple[Path, Any]:
    """A folder in which a preset was trained and scored, with its database, and its cells."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copy(empty_database, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.delenv("NOISYVOS_TRACKING", raising=False)
        return folder, make()


@pytest.fixture
def results(trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    """The results in a copy of it, which is the working folder."""
    folder = tmp_path / "copy"
    shutil.copytree(trained[0], folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    monkeypatch.delenv("NOISYVOS_TRACKING", raising=False)
    places = Path("results/p"), Path("runs/p/predictions"), Path("data/converted")
    return Results(trained[1], *places)


@pytest.fixture
def client(results: Results):
    """A client on the copy of the database."""
    return stores.connect()


def make() -> dict[str, Any]:
    """Train and score a pretraining, and two methods on clean and noisy labels, two seeds each."""
    for name in ("train", "val", "images"):
        folder = Path("data/converted") / name
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text(json.dumps({"name": name}))
    common = {"model": {"name": "tiny", "kind": "tiny"}, "schedule": {"name": "s", "batch": 4}}
    settings = common | {"stage": "pretrain", "method": {"name": "xmem", "kind": "xmem"}, "seed": 0}
    clips = Path("data/synth/images-r-s0")
    train("pretrain", START, settings | {"clips": clips.name}, {"clips": clips})
    cells: dict[str, Any] = {
        "preset": {"name": "p", "references": {"core": "xmem"}},
        "pretrain": {START: {"clips": clips.name, "images": "images"}},
        "train": {},
        "score": {
            f"{START}-val": {
                "role": "pretrained",
                "evaluation": "val",
                "run": START,
                "model": "tiny",
                "protocol": "davis",
            }
        },
    }
    score(f"{START}-val", 0.2)
    for (method, seed), jf in JF.items():
        for noise in ("clean", "dilate80"):
            labels = "train-clean" if noise == "clean" else f"train-dilate80-s{seed}"
            cell = f"{labels.removesuffix(f'-s{seed}')}-{method}-tiny-s{seed}"
            achieved = 1.0 if noise == "clean" else 0.79 + 0.01 * seed
            facts = {"noise": noise, "q_achieved": achieved, "seed": seed}
            facts |= {"kind": "clean", "q": None} if noise == "clean" else {}
            facts |= {"kind": "dilate", "q": 0.8} if noise != "clean" else {}
            own = {"stage": "train", "method": {"name": method, "kind": method}, "seed": seed}
            masks = Path("data/noisy") / f"{labels}.zip"
            dataset = Path("data/converted/train")
            train(
                "train",
                cell,
                common | own | {"dataset": "train", "noise": facts},
                {"dataset": dataset, "masks": masks},
            )
            entry = {"dataset": "train", "noise": noise, "method": method, "model": "tiny"}
            entry |= {"seed": seed}
            cells["train"][cell] = entry | {"noise_key": labels, "blocks": ["core"]}
            cells["score"][f"{cell}-val"] = entry | {
                "role": "trained",
                "evaluation": "val",
                "run": cell,
                "train_key": cell,
                "protocol": "davis",
            }
            score(f"{cell}-val", jf if noise == "clean" else jf - 0.2)
    return cells


VOLATILE = ("mlflow.user", "mlflow.source", "mlflow.parentRunId", "content", "rebuilt", "mlflow.no")


def view(client) -> dict[str, Any]:
    """All that MLflow shows of the preset, without ids and the times of scores and sweeps."""
    experiment = client.get_experiment_by_name("grid/p")
    found: dict[str, Any] = {}
    names: dict[str, str] = {}
    runs = client.search_runs([experiment.experiment_id], "tags.superseded = 'no'")
    for run in runs:
        names[run.info.run_id] = run.info.run_name
    for run in runs:
        training = "cell" in run.data.tags
        points = [
            (m.key, m.step, m.value, m.timestamp if "/loss" in m.key or "system" in m.key else 0)
            for name in run.data.metrics
            for m in client.get_metric_history(run.info.run_id, name)
        ]
        history = set(points)
        assert len(points) == len({point[:2] for point in points}), "a point is there twice"
        parent = run.data.tags.get("mlflow.parentRunId")
        found[run.info.run_name] = {
            "status": run.info.status,
            "began": run.info.start_time if training else 0,
            "params": run.data.params,
            "tags": {k: v for k, v in run.data.tags.items() if not k.startswith(VOLATILE)},
            "parent": names[parent] if parent else None,
            "metrics": history,
            "inputs": {
                (d.dataset.name, d.dataset.digest, d.dataset.source, d.dataset.profile)
                for d in run.inputs.dataset_inputs
            },
            "files": [file.path for file in client.list_artifacts(run.info.run_id)],
        }
    for model in client.search_registered_models():
        for alias, version in client.get_registered_model(model.name).aliases.items():
            one = client.get_model_version(model.name, version)
            assert names[one.run_id] == one.tags["cell"]
            found[f"{model.name}@{alias}"] = (one.tags, one.source, one.description)
    return found


def test_everything_is_made_again_from_files(
    client, results: Results, monkeypatch: pytest.MonkeyPatch, empty_database: Path
) -> None:
    assert publish(results)
    before = view(client)
    assert publish(results)
    assert view(client) == before, "a second time changes nothing"

    again = Path("again").absolute()
    again.mkdir()
    shutil.copy(empty_database, again / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{again}/mlflow.db")
    assert publish(results)
    assert view(stores.connect()) == before

    pretraining = before[START]
    assert pretraining["params"]["schedule.batch"] == "4"
    assert pretraining["tags"]["stage"] == "pretrain"
    assert {name for name, *_ in pretraining["metrics"]} > {
        "pretrain/loss",
        "gradient/norm",
        "speed/iterations_per_second",
        "system/system_memory_usage_megabytes",
        "val/JF",
    }
    cell = before["train-dilate80-smart-tiny-s1"]
    assert {name for name, *_ in cell["inputs"]} == {"train", "train-dilate80-s1", "val"}
    losses = {(step, value) for name, step, value, _ in cell["metrics"] if name == "train/loss"}
    assert losses == set(zip((10, 20, 30), LOSSES, strict=True))
    assert cell["parent"] == "smart|dilate|train|tiny|s1"


def test_sweeps_are_averaged_over_seeds(client, results: Results) -> None:
    publish(results)
    found = view(client)
    mean = {(name, step): value for name, step, value, _ in found["smart, dilate"]["metrics"]}
    assert mean[("sweep/jf", 0)] == pytest.approx(0.68)
    assert mean[("sweep/jf", 20)] == pytest.approx(0.48)
    assert mean[("sweep/jf_std", 20)] == pytest.approx(0.04 / 2**0.5)
    assert mean[("sweep/q_achieved", 20)] == pytest.approx(0.795)
    assert mean[("sweep/seeds", 0)] == 2
    assert found["smart, dilate"]["tags"]["seeds"] == "0, 1"
    assert found["smart|dilate|train|tiny|s0"]["parent"] == "smart, dilate"


def test_the_best_network_of_each_method_is_registered(client, results: Results) -> None:
    publish(results)
    tags, source, description = view(client)["p-tiny@best"]
    assert tags["cell"] == "train-clean-smart-tiny-s0"
    expected = {"noise": "clean", "method": "smart", "seed": "0", "JF": "0.7000", "code": "c0de"}
    assert expected.items() <= tags.items()
    weights = Path("runs/p/train/train-clean-smart-tiny-s0/weights.safetensors")
    assert source == weights.absolute().as_uri()
    assert str(weights) in description
    assert client.get_model_version_by_alias("p-tiny", "xmem").tags["JF"] == "0.6400"
    weights.write_text("other weights")  # trained again
    publish(results)
    assert int(client.get_model_version_by_alias("p-tiny", "best").version) == 3
    assert len(client.search_model_versions("name='p-tiny'")) == 3


def test_without_a_journal_the_curve_comes_from_its_file(client, results: Results) -> None:
    for path in Path("runs").rglob("journal.jsonl"):
        path.unlink()
    for run in client.search_runs([client.get_experiment_by_name("grid/p").experiment_id]):
        client.delete_run(run.info.run_id)
    publish(results)
    cell = view(client)["train-clean-xmem-tiny-s0"]
    rows = sorted((step, value) for name, step, value, _ in cell["metrics"] if name == "train/loss")
    assert rows == [(10, 0.9), (20, 0.71234568), (30, 0.5)]
    assert cell["tags"]["git_sha"] == "unknown"
    assert {name for name, *_ in cell["inputs"]} == {"train", "train-clean", "val"}
