"""The commands infer, segment, merge and spread, as a user types them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from noisyvos.cli import app
from noisyvos.cli.app import Failure
from noisyvos.datasets.layout import Sequence, write_video_meta
from noisyvos.errors import UserError
from noisyvos.io.images import encode_frame
from noisyvos.io.masks import MaskCollection, encode_mask
from noisyvos.pipeline.code_deps import code

PARAMS = Path(__file__).resolve().parents[3] / "params"
HEIGHT, WIDTH = 48, 64
NAMES = tuple(f"{index:05d}" for index in range(4))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Two videos with two objects each."""
    root = tmp_path_factory.mktemp("data") / "toy"
    random = np.random.default_rng(0)
    sequences = []
    for name in ("ant", "bear"):
        for folder in ("frames", "masks"):
            (root / folder / name).mkdir(parents=True)
        for index, frame in enumerate(NAMES):
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            mask[6:28, 4 + index : 26 + index] = 1
            mask[20:44, 34:60] = 2
            picture = random.integers(90, 160, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            picture[mask == 1], picture[mask == 2] = (220, 50, 40), (40, 80, 220)
            (root / "frames" / name / f"{frame}.jpg").write_bytes(encode_frame(picture))
            (root / "masks" / name / f"{frame}.png").write_bytes(encode_mask(mask))
        sequences.append(Sequence(name, NAMES, NAMES, (HEIGHT, WIDTH), (1, 2)))
    write_video_meta(root, "toy", sequences)
    return root


def command(*arguments: object) -> str:
    """Run a command and return what it printed."""
    done = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def refusal(*arguments: object) -> UserError:
    """Return the user's error of a command."""
    with pytest.raises(Failure) as caught:
        CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert isinstance(caught.value.error, UserError)
    return caught.value.error


def infer(dataset: Path, out: Path, model: str, *options: object, params: Path = PARAMS) -> str:
    """Run `infer` with an untrained network and the repository's parameter files."""
    run = ("infer", "--dataset", dataset, "--model", model, "--weights", "none", "--out", out)
    return command(*run, "--params", params, "--device", "cpu", *options)


def test_memory_options_reach_the_network(dataset, tmp_path) -> None:
    def soft(name: str, *options: object) -> bytes:
        infer(
            dataset,
            tmp_path / f"{name}.zip",
            "afb_urr_tiny",
            "--save-probabilities",
            tmp_path / name,
            *options,
        )
        return (tmp_path / name / "ant/00003.npz").read_bytes()

    assert soft("default") == soft("same", "--budget", 300_000, "--memory", "update_rate=0.1")
    assert soft("default") != soft("small", "--budget", 30)
    assert soft("small") != soft("rate", "--update-rate", 1)
    run = ("infer", "--dataset", dataset, "--weights", "none", "--out", tmp_path / "x.zip")
    run = (*run, "--params", PARAMS, "--device", "cpu")
    error = refusal(*run, "--model", "xmem_tiny", "--budget", 30)
    assert "--budget: the memory of xmem_tiny has no setting 'budget'" in str(error)
    error = refusal(*run, "--model", "rhmnet_tiny", "--mem-every", 3)
    assert "scribble_every" in str(error)
    assert not (tmp_path / "x.zip").exists()


def test_two_sizes_are_merged(dataset, tmp_path) -> None:
    shutil.copytree(PARAMS, tmp_path / "params")
    settings = tmp_path / "params" / "eval.yaml"
    entries = yaml.safe_load(settings.read_text())
    entries["xmem_ms_flip"]["size"] = 96  # and 144 lines, in place of 480 and 720
    settings.write_text(yaml.safe_dump(entries))
    for name, options in (("full", ()), ("views", ("--settings", "xmem_ms_flip"))):
        said = infer(
            dataset,
            tmp_path / f"{name}.zip",
            "xmem_tiny",
            "--save-probabilities",
            tmp_path / name,
            "--viz",
            tmp_path / "pictures",
            *options,
            params=tmp_path / "params",
        )
        assert "8 frames in" in said
    command("merge", tmp_path / "full", tmp_path / "views", "--out", tmp_path / "merged.zip")
    merged, full = MaskCollection(tmp_path / "merged.zip"), MaskCollection(tmp_path / "full.zip")
    total = 0
    for name in ("full", "views"):
        with np.load(tmp_path / name / "bear/00003.npz") as content:
            total = total + content["probabilities"].astype(int)
    assert np.array_equal(merged.read("bear", "00003"), total.argmax(0))
    assert np.array_equal(merged.read("bear", "00000"), full.read("bear", "00000"))
    assert len(list((tmp_path / "pictures").glob("*/*.png"))) == 2 * len(NAMES)


def test_five_sets_of_drawn_scribbles(dataset, tmp_path) -> None:
    """As RHMNet's evaluation: <video>.bmp of the first frame, the background after the objects."""
    scores = []
    for number in range(5):
        drawn = tmp_path / f"valid_scribbles{number}"
        drawn.mkdir()
        for name in ("ant", "bear"):
            scribble = np.zeros((HEIGHT, WIDTH), np.uint8)
            scribble[10 + number : 14 + number, 8:22] = 1
            scribble[26 + number : 30 + number, 38:56] = 2
            scribble[0:3, 10:50] = 3
            Image.fromarray(scribble).save(drawn / f"{name}.bmp")
        mine = tmp_path / str(number)
        command(
            "convert",
            "scribbles",
            "--dataset",
            dataset,
            "--scribbles",
            drawn,
            "--out",
            f"{mine}.zip",
            "--manifest",
            f"{mine}.json",
        )
        infer(dataset, Path(f"{mine}-result.zip"), "rhmnet_tiny", "--prompts", f"{mine}.zip")
        command(
            "score",
            "--results",
            f"{mine}-result.zip",
            "--truth",
            dataset / "masks",
            "--out",
            f"{mine}-scores",
        )
        scores.append(Path(f"{mine}-scores"))
    said = command("spread", *scores, "--out", tmp_path / "five.csv")
    single = [json.loads((each / "scores.json").read_text())["means"] for each in scores]
    table = pd.read_csv(tmp_path / "five.csv", index_col="run")
    assert list(table.index) == [*map(str, scores), "mean", "std", "min", "max"]
    for name in ("J&F-Mean", "J-Mean", "F-Mean"):
        values = np.array([means[name] for means in single])
        assert table.loc["mean", name] == pytest.approx(values.mean(), abs=1e-6)
        assert table.loc["std", name] == pytest.approx(values.std(ddof=1), abs=1e-6)
        assert table.loc["min", name] == pytest.approx(values.min(), abs=1e-6)
    assert len({means["J-Mean"] for means in single}) > 1, "the sets differ"
    assert "J&F of 5 runs" in said


def test_scores_of_other_videos_have_no_spread(dataset, tmp_path) -> None:
    infer(dataset, tmp_path / "a.zip", "xmem_tiny")
    for name, options in (("one", ()), ("other", ("--protocol", "visor"))):
        command(
            "score",
            "--results",
            tmp_path / "a.zip",
            "--truth",
            dataset / "masks",
            "--out",
            tmp_path / name,
            *options,
        )
    table = ("--out", tmp_path / "t.csv")
    assert "protocol is visor, but davis in" in str(
        refusal("spread", tmp_path / "one", tmp_path / "other", *table)
    )
    assert "at least two" in str(refusal("spread", tmp_path / "one", *table))
    assert not (tmp_path / "t.csv").exists()


def test_a_change_of_overlays_makes_no_prediction_stale() -> None:
    """Pictures are the command's, so that their code is no dependency of the stage."""
    modules = code().stage("infer")
    assert "noisyvos.inference.video" in modules
    assert not any(name.startswith("noisyvos.media") for name in modules)
