"""Tables, figures and the page, made from a small results folder whose numbers are known."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import yaml
from report_workspace import make_workspace, places, square
from still_images import write_images
from typer.testing import CliRunner

from noisyvos.analysis.absent import _chain, reasons, summary
from noisyvos.analysis.comparison import comparisons
from noisyvos.analysis.results import load_results
from noisyvos.cli import app
from noisyvos.errors import UserError
from noisyvos.io.masks import MaskCollection, write_mask_zip
from noisyvos.media.material import (
    reduced,
    reduced_frame,
    shown_frames,
    stored_frames,
    write_material,
)
from noisyvos.media.overlays import outline, overlay
from noisyvos.report import figures as of_numbers
from noisyvos.report import tables as build
from noisyvos.report.figures import directions, hard_pixels, mean_curves, memorisation, teacher
from noisyvos.report.pictures import clips_figure
from noisyvos.stages import figures, report, synth, tables
from noisyvos.tracking.sweeps import sweep_points


def add_clips(root: Path) -> Path:
    """Make clips of three images, give the grid a cell for them and one for clips that are not
    there; return their folder.
    """
    out = root / "data/synth/stills-own-s0"
    (root / "params/synth.yaml").write_text("own: {kind: xmem_static, clips: 9, crop: 48}\n")
    synth.run(
        write_images(root / "stills", {n: [[24, 14, 56, 46]] for n in range(3)}),
        recipe="own",
        out=out,
        seed=0,
        params=root / "params",
    )
    cells = yaml.safe_load((root / "cells.yaml").read_text()) | {
        "synth": {out.name: {}, "elsewhere-own-s0": {}}
    }
    (root / "cells.yaml").write_text(yaml.safe_dump(cells, sort_keys=False))
    return out


def test_table_has_means_over_objects_and_seeds_baselines_first(workspace: Path) -> None:
    table = build.score_table(load_results(**places(workspace)), "val").set_index(["line", "noise"])
    assert list(table.index[:2]) == [("first mask copied", "-"), ("pretrained only", "-")]
    row = table.loc["gce", "dilate80"]
    assert row.JF == pytest.approx(0.605)
    assert row.J == pytest.approx(0.62)
    assert row.seed_sd == pytest.approx(0.01 / 2**0.5)
    assert row.q_achieved == pytest.approx(0.801)
    assert row.area_ratio == pytest.approx(4.0)
    assert table.loc["gce", "clean"].area_ratio == pytest.approx(1.0)


def add_disturbed(root: Path, axis: str, name: str, loss: float, draw: int = 0) -> None:
    """Score every cell but those of training seed 1 again, disturbed at test time, `loss` lower."""
    run, facts = f"{axis}_{name}" + (f"-p{draw}" if draw else ""), {axis: name}
    facts |= {"prompt_seed": draw} if draw else {}
    cells = yaml.safe_load((root / "cells.yaml").read_text())
    for key, cell in cells["score"].items():
        if key.endswith("s1-val"):
            continue
        section = cells.setdefault("score_disturbed", {})
        section.setdefault(key, cell | {"clean_key": key, "runs": {}})["runs"][run] = facts
        scored = pd.read_csv(root / f"results/p/scores/{key}/objects.csv")
        scored[["J-Mean", "F-Mean"]] = (scored[["J-Mean", "F-Mean"]] - loss).clip(lower=0)
        (root / f"results/p/scores/disturbed/{key}/{run}").mkdir(parents=True)
        scored.to_csv(root / f"results/p/scores/disturbed/{key}/{run}/objects.csv", index=False)
    (root / "cells.yaml").write_text(yaml.safe_dump(cells, sort_keys=False))


def test_prompts_drawn_several_times_have_a_mean_and_a_spread(workspace: Path) -> None:
    add_disturbed(workspace, "prompt", "strokes", 0.2)
    add_disturbed(workspace, "prompt", "strokes", 0.3, draw=1)
    prompts = comparisons(load_results(**places(workspace)), "val")["prompts"]
    row = prompts.numbers.set_index(["line", "noise", "prompt"]).loc["gce", "dilate80", "strokes"]
    assert row["JF"] == pytest.approx(0.6 - 0.25)
    assert row["change"] == pytest.approx(-0.25)
    assert row["draws"] == 2
    assert row["spread"] == pytest.approx(0.1 / 2**0.5)
    assert "±7.1" in prompts.views[0].table.loc["gce, trained on dilate80", "strokes"]
    assert "±" not in prompts.views[0].table.loc["gce, trained on dilate80", "clean"]
    assert any("standard deviation" in note for note in prompts.views[0].notes)


def test_noisy_prompts_have_a_separate_table_and_touch_no_other(workspace: Path) -> None:
    before = load_results(**places(workspace))
    scores, points = build.score_table(before, "val"), sweep_points(before)
    cells = build.cell_table(before)
    assert "prompts" not in comparisons(before, "val")
    add_disturbed(workspace, "prompt", "mix80", 0.2)
    results = load_results(**places(workspace))
    pd.testing.assert_frame_equal(build.score_table(results, "val"), scores)
    pd.testing.assert_frame_equal(build.cell_table(results), cells)
    assert sweep_points(results) == points
    prompts = comparisons(results, "val")["prompts"]
    numbers = prompts.numbers.set_index(["line", "noise", "prompt"])
    assert numbers.loc["gce", "dilate80", "mix80"]["JF"] == pytest.approx(0.4)
    assert numbers.loc["gce", "dilate80", "clean"]["JF"] == pytest.approx(0.6), (
        "only the trainings that were also given noisy prompts"
    )
    assert numbers["change"].xs("mix80", level="prompt").to_numpy() == pytest.approx(-0.2)
    view = prompts.views[0].table
    assert list(view.columns) == ["clean", "mix80"]
    assert list(view.index) == [
        "first mask copied",
        "pretrained only",
        "gce, trained on clean",
        "gce, trained on dilate80",
    ]
    assert view.loc["first mask copied", "mix80"].endswith("(-20.0)")
    assert "(synthetic)" in prompts.views[0].caption
    (workspace / "results/p/scores/disturbed/first_mask-val/prompt_mix80/objects.csv").unlink()
    results = load_results(**places(workspace))
    assert results.missing == ["first_mask-val-prompt_mix80"]
    prompts = comparisons(results, "val")["prompts"]
    assert prompts.views[0].table.loc["first mask copied", "mix80"] == "missing"


def test_corrupted_images_have_a_table_with_their_mean_and_touch_no_other(workspace: Path) -> None:
    scores = build.score_table(load_results(**places(workspace)), "val")
    add_disturbed(workspace, "corruption", "noise10", 0.1)
    add_disturbed(workspace, "corruption", "blur9", 0.2)
    add_disturbed(workspace, "prompt", "mix80", 0.3)
    results = load_results(**places(workspace))
    pd.testing.assert_frame_equal(build.score_table(results, "val"), scores)
    corruptions = comparisons(results, "val")["corruptions"]
    numbers = corruptions.numbers.set_index(["line", "noise", "corruption"])
    assert numbers.loc["gce", "dilate80", "mean of all"]["JF"] == pytest.approx(0.45)
    assert numbers["change"].xs("mean of all", level="corruption").to_numpy() == pytest.approx(
        -0.15
    )
    view = corruptions.views[0].table
    assert list(view.columns) == ["clean", "noise10", "blur9", "mean of all"]
    assert view.loc["gce, trained on dilate80", "mean of all"].endswith("(-15.0)")


def test_wide_table_repeats_baselines_and_shows_missing_cells_as_missing(workspace: Path) -> None:
    for seed in (0, 1):
        (workspace / f"results/p/scores/val-dilate-gce-tiny-s{seed}-val/objects.csv").unlink()
    results = load_results(**places(workspace))
    wide = build.wide(build.score_table(results, "val"), results)
    assert list(wide.columns) == ["clean"], (
        "a condition without any score is listed under missing, not averaged"
    )
    assert results.missing == [f"val-dilate-gce-tiny-s{seed}-val" for seed in (0, 1)]
    assert wide.loc["first mask copied", "clean"].startswith("30.0")


def test_wide_table_tells_what_is_missing_from_what_the_grid_has_not(tmp_path: Path) -> None:
    results = load_results(**places(make_workspace(tmp_path, ("gce", "sce"))))
    table = build.score_table(results, "val")
    assert results.planned("val") == {(m, n) for m in ("gce", "sce") for n in ("clean", "dilate80")}
    table = table[(table["line"] == "gce") | (table["noise"] != "dilate80")]
    every = build.wide(table, results, planned=results.planned("val"))
    assert every.loc["sce", "dilate80"] == "missing"
    fewer = build.wide(table, results, planned=results.planned("val") - {("sce", "dilate80")})
    assert fewer.loc["sce", "dilate80"] == "-"
    assert fewer.loc["gce", "dilate80"] == every.loc["gce", "dilate80"] == "60.5 [60.5, 60.5]"


def test_cells_that_the_grid_has_not_are_not_missing_where_another_set_has_other_networks(
    tmp_path: Path,
) -> None:
    workspace = make_workspace(tmp_path, ("gce", "sce"))
    cells = yaml.safe_load((workspace / "cells.yaml").read_text())
    for key, cell in list(cells["score"].items()):
        if cell.get("method") == "sce":
            if cell["noise"] == "clean":
                cell |= {"evaluation": "other", "model": "small"}
            elif cell["seed"] == 1:
                cells["score"].pop(key)
    (workspace / "cells.yaml").write_text(yaml.safe_dump(cells, sort_keys=False))
    results = load_results(**places(workspace))
    planned = results.planned("val")
    assert planned == {("gce, tiny", "clean"), ("gce, tiny", "dilate80"), ("sce, tiny", "dilate80")}
    wide = build.wide(build.score_table(results, "val"), results, planned=planned)
    assert wide.loc["sce, tiny", "clean"] == "-"


def test_stages_write_tables_figures_and_a_page_that_says_synthetic(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("NOISYVOS_TRACKING", "off")
    (workspace / "params").mkdir()
    (workspace / "params/noise.yaml").write_text(
        "clean: {kind: clean}\ndilate80: {kind: dilate, q: 0.8}\n"
    )
    add_clips(workspace)
    out = workspace / "results/p"
    tables.run(**places(workspace), out=out / "tables")
    figures.run(
        **places(workspace),
        params=workspace / "params",
        clips=workspace / "data/synth",
        out=out / "figures",
    )
    report.run(**places(workspace), figures=out / "figures", out=out / "report.html")
    names = {path.name for folder in ("tables", "figures") for path in (out / folder).iterdir()}
    assert {
        "scores-val.md",
        "scores-val.tex",
        "scores-val.csv",
        "cells.csv",
        "noise-curves-val.png",
        "training.png",
    } <= names
    assert {"example-val-best_1.png", "example-val-worst_1.png", "label-noise-val.png"} <= names
    assert {
        "sweeps-val.md",
        "sweeps-val.tex",
        "sweeps-val.csv",
        "memorisation.png",
        "clips-stills-own-s0.png",
    } <= names
    assert "teacher.png" not in names, "no method here has a teacher"
    for name in ("scores", "sweeps"):
        assert "(synthetic)" in (out / f"tables/{name}-val.md").read_text()
    cells = pd.read_csv(out / "tables/cells.csv", dtype=str).set_index("cell")
    assert cells.loc["val-clean-gce-tiny-s0-val", "masks"] == "f00f00f00f00", (
        "a number can be traced to its labels"
    )
    assert cells.loc["val-clean-gce-tiny-s0-val", "dataset"] == "val"
    assert cells.loc["val-clean-gce-tiny-s0-val", "dataset_hash"] == "da7ada7ada7a"
    page = (out / "report.html").read_text()
    assert "Synthetic" in page
    assert "first mask copied" in page
    players = len(list((out / "figures").glob("*.json")))
    assert players == 2
    assert page.count('<figure class="player"') == players
    assert page.count("<img") + players == len(list((out / "figures").glob("*.png")))
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("gone", ["", "clean", "dilate", "first_mask", "pretrained", "s1", "all"])
def test_a_report_can_be_built_of_any_part(
    workspace: Path, gone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is scored is reported, and what is not is listed with its reason."""
    add_disturbed(workspace, "prompt", "mix80", 0.2)
    if gone:  # vector formats take most of the time and are made the same way
        monkeypatch.setattr(of_numbers, "DRAWN", {})
    removed = 0
    for path in (workspace / "results/p/scores").rglob("objects.csv"):
        if gone and (gone in str(path.relative_to(workspace)) or gone == "all"):
            path.unlink()
            removed += 1
    (workspace / "params").mkdir()
    (workspace / "params/noise.yaml").write_text(
        "clean: {kind: clean}\ndilate80: {kind: dilate, q: 0.8}\n"
    )
    (workspace / "params/cells.yaml").write_text((workspace / "cells.yaml").read_text())
    monkeypatch.chdir(workspace)
    done = CliRunner().invoke(app, ["report", "--preset", "p"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    page = (workspace / "results/p/so_far/report.html").read_text()
    assert ("Missing cells" in page) == bool(removed)
    listed = workspace / "results/p/so_far/tables/missing.csv"
    assert (len(pd.read_csv(listed)) if removed else 0) == removed
    assert ("Scores on val" in page) == (gone != "all")


def test_a_missing_cell_has_the_reason_of_the_first_job_that_is_not_done(workspace: Path) -> None:
    clean, dilated = (f"val-{noise}-gce-tiny-s0" for noise in ("clean", "dilate"))
    for key in (clean, dilated):
        (workspace / f"results/p/scores/{key}-val/objects.csv").unlink()
    (workspace / f"results/p/train/{dilated}/summary.json").unlink()
    logs = workspace / "logs"
    (logs / "train").mkdir(parents=True)
    (logs / f"train/{dilated}.log").write_text("begins\nCUDA out of memory\n\n")
    table = reasons(load_results(**places(workspace)), logs)
    assert table.to_dict("records") == [
        {"cell": f"{clean}-val", "job": f"infer@{clean}-val", "reason": "has not run"},
        {
            "cell": f"{dilated}-val",
            "job": f"train@{dilated}",
            "reason": "last line of its log: CUDA out of memory",
        },
    ]
    assert summary(table)["wait for stage"].tolist() == ["infer", "train"]


def test_a_folder_in_place_of_scores_is_a_missing_cell(workspace: Path) -> None:
    key = "val-clean-gce-tiny-s0-val"
    results = load_results(**places(workspace))
    for stage, _, result in _chain(results, key):  # all else of the cell is there
        if stage != "score":
            result.parent.mkdir(parents=True, exist_ok=True)
            result.touch()
    scores = results.scores_of(key) / "objects.csv"
    scores.unlink()
    scores.mkdir()
    table = reasons(load_results(**places(workspace)), workspace / "logs")
    assert table.to_numpy().tolist() == [[key, f"score@{key}", "has not run"]]


def test_jobs_that_a_run_did_not_get_done_are_missing_with_the_failed_job(workspace: Path) -> None:
    """Scores of an earlier run are still there, and out of date."""
    add_disturbed(workspace, "prompt", "mix80", 0.2)
    clean, dilated = (f"val-{noise}-gce-tiny-s0" for noise in ("clean", "dilate"))
    every = load_results(**places(workspace))
    assert every.missing == []
    assert every.summary(dilated)["noise"]
    logs = workspace / "logs"
    for job, said in (("train/" + dilated, "no memory is left\n"), ("score/" + clean, "fine\n")):
        (logs / job).parent.mkdir(parents=True, exist_ok=True)
        (logs / f"{job}.log").write_text(said)
    scored = every.scores_of("first_mask-val-prompt_mix80").parent.name
    unfinished = {
        f"train@{dilated}": f"train@{dilated}",
        f"score@{dilated}-val": f"train@{dilated}",
        f"score@{clean}-val": "",  # the run ended before
        f"score_disturbed@{scored}": "convert@val",
    }
    found = load_results(**places(workspace), unfinished=unfinished)
    assert found.summary(dilated) == {}
    assert found.summary(clean)["noise"]
    assert set(found.objects["key"]).isdisjoint({f"{clean}-val", f"{dilated}-val"})
    table = reasons(found, logs).set_index("cell")
    silent = "failed, and its log is empty"
    assert table.loc[f"{dilated}-val"].tolist() == [
        f"train@{dilated}",
        "last line of its log: no memory is left",
    ]
    assert table.loc[f"{clean}-val"].tolist() == [f"infer@{clean}-val", "has not run"]
    assert table.loc["first_mask-val-prompt_mix80"].tolist() == ["convert@val", silent]
    assert len(table) == len(found.missing) == 3


def test_material_of_a_large_video_is_reduced(tmp_path: Path) -> None:
    """Areas count every frame but the first; examples are 13 frames at a third of 720 rows."""
    names = [f"{index:05d}" for index in range(25)]
    big = np.zeros((720, 900), np.uint8)
    big[300:600, 300:600] = 1
    half = np.where(np.arange(720)[:, None] < 450, big, 0).astype(np.uint8)
    write_mask_zip(tmp_path / "truth.zip", [("a", name, big) for name in names])
    write_mask_zip(tmp_path / "made.zip", [("a", name, half) for name in names])
    write_material(tmp_path, tmp_path / "made.zip", tmp_path / "truth.zip")
    assert (tmp_path / "areas.csv").read_text().splitlines() == [
        "sequence,object,true,predicted",
        f"a,1,{24 * 300 * 300},{24 * 150 * 300}",
    ]
    examples = MaskCollection(tmp_path / "examples.zip")
    assert list(examples.frames("a")) == stored_frames(names) == names[::2]
    assert shown_frames(names) == names[::6]
    assert np.array_equal(examples.read("a", names[4]), reduced(half))
    assert reduced(half).shape == (240, 300)
    assert reduced_frame(np.zeros((720, 900, 3), np.uint8)).shape == (240, 300, 3)


def test_clips_are_drawn_with_the_shares_of_their_statistics(workspace: Path) -> None:
    (workspace / "params").mkdir()
    root = add_clips(workspace)
    figure = clips_figure(root, "title")
    counts = json.loads((root / "meta.json").read_text())["statistics"]["objects_per_clip"]
    objects, areas, motion, hidden, contact = figure.axes
    assert [bar.get_height() for bar in objects.patches] == pytest.approx(
        [100 * count / 9 for count in counts.values()]
    )
    for axis in (areas, motion):
        assert sum(bar.get_height() for bar in axis.patches) == pytest.approx(100)
    assert [bar.get_height() for bar in hidden.patches] == [0, 0, 0], (
        "nothing is pasted in this recipe"
    )
    assert contact.images[0].get_array().shape == (3 * 196, 6 * 196, 3)
    plt.close(figure)


def test_diagnostics_are_averaged_over_seeds_where_they_were_measured(workspace: Path) -> None:
    path = workspace / "results/p/train/val-dilate-gce-tiny-s1/curve.csv"
    pd.read_csv(path).assign(memorised=[0.35, np.nan] * 20).to_csv(path, index=False)
    curve = mean_curves(
        load_results(**places(workspace)), "dilate80", "gce", ["memorised", "corrected", "other"]
    )
    assert list(curve.index) == list(range(0, 40, 2))
    assert curve["memorised"].to_numpy() == pytest.approx(0.3)
    assert list(curve.columns) == ["memorised", "corrected"]
    assert mean_curves(load_results(**places(workspace)), "clean", "gce", ["memorised"]) is None


def test_no_diagnostic_curve_is_cut_off(workspace: Path) -> None:
    path = workspace / "results/p/train/val-clean-gce-tiny-s0/curve.csv"
    pd.read_csv(path).assign(memorised=0.1, corrected=0.05).to_csv(path, index=False)
    figure = memorisation(load_results(**places(workspace)))
    for axis in figure.axes:
        assert axis.get_ylim()[0] == 0
        assert all(line.get_ydata().max() <= axis.get_ylim()[1] for line in axis.lines)
    assert sum(bool(axis.lines) for axis in figure.axes) == 2
    plt.close(figure)


def lines_of(figure) -> list[list[float]]:
    """The values of every line of a figure, panel by panel."""
    found = [list(line.get_ydata()) for axis in figure.axes for line in axis.lines]
    plt.close(figure)
    return found


def test_what_only_some_rows_or_trainings_have_is_drawn_all_the_same(workspace: Path) -> None:
    """Dilation has no object called background, sigma is in every row, and only one of the two
    seeds has the second network.
    """
    for seed in (0, 1):
        path = workspace / f"results/p/train/val-dilate-gce-tiny-s{seed}/curve.csv"
        table = pd.read_csv(path).assign(
            memorised_bg_fg=[0.4, np.nan] * 20, teacher_iou_clean=[0.7, np.nan] * 20, sigma=0.9
        )
        table = table.assign(mislabelled_kept=[0.05, np.nan] * 20) if seed else table
        table.to_csv(path, index=False)
    results = load_results(**places(workspace))
    assert lines_of(directions(results)) == [[0.4] * 20]
    assert sorted(map(len, lines_of(teacher(results)))) == [20, 40]
    assert sorted(map(tuple, lines_of(hard_pixels(results)))) == [(0.05,) * 20, (0.1,) * 20]


def test_figures_are_the_same_bytes_on_every_run(workspace: Path) -> None:
    (workspace / "params").mkdir()
    (workspace / "params/noise.yaml").write_text(
        "clean: {kind: clean}\ndilate80: {kind: dilate, q: 0.8}\n"
    )
    pictures = []
    for name in ("one", "two"):
        figures.run(
            **places(workspace),
            params=workspace / "params",
            clips=workspace / "data/synth",
            out=workspace / name,
        )
        pictures.append({path.name: path.read_bytes() for path in (workspace / name).iterdir()})
    assert pictures[0] == pictures[1]


def test_sweep_points_open_with_the_clean_cell(workspace: Path) -> None:
    points = sweep_points(load_results(**places(workspace)))
    seed0 = sorted(
        (point.step, round(point.metrics["jf"], 3))
        for point in points
        if point.sweep == "gce|dilate|val|tiny|s0"
    )
    assert seed0 == [(0, 0.7), (20, 0.6)]


def test_a_folder_without_scores_is_refused(workspace: Path) -> None:
    results = load_results(**(places(workspace) | {"results": workspace / "empty"}))
    with pytest.raises(UserError, match="no cell of preset 'p' is scored yet"):
        _ = results.objects


def test_overlay_leaves_background_alone_and_tints_objects() -> None:
    frame = np.full((24, 36, 3), 100, np.uint8)
    drawn = overlay(frame, square(8))
    assert (drawn[square(8) == 0] == 100).all()
    assert (drawn[8, 10] == [round(0.55 * 100 + 0.45 * 128), 55, 55]).all()


def test_outline_is_the_inner_border() -> None:
    assert outline(square(8)).sum() == 28


def test_latex_escapes_every_special_mark() -> None:
    table = pd.DataFrame({"a_b": [r"\ $ { } ~ ^ _ % & #"]}, index=["[x] ± −1"]).rename_axis("m")
    text = build.to_latex(table, "50 % & more", "tab:a b-1")
    assert r"\textbackslash{} \$ \{ \} \textasciitilde{} \textasciicircum{} \_ \% \& \#" in text
    assert r"\caption{50 \% \& more}\label{tab:a-b-1}" in text
    assert r"m & a\_b \\" in text
    assert "\n{[}x] $\\pm$ -1 & " in text, "a bracket after \\\\ would be read as its argument"


def test_markdown_keeps_a_bar_inside_its_cell() -> None:
    text = build.to_markdown(pd.DataFrame({"a": ["x|y"]}), "c")
    assert text.splitlines()[-1] == "| x\\|y |"


def test_questions_are_found_by_being_in_the_package() -> None:
    from noisyvos.analysis.comparison import QUESTIONS

    assert set(QUESTIONS.names()) == {
        "controls",
        "corruptions",
        "differences",
        "hypotheses",
        "prompts",
        "realisations",
        "sweeps",
        "tuning",
    }
