"""The page: what it says, what it shows, and whether its files and tables can be used."""

import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from report_workspace import make_workspace, places, square

from noisyvos.analysis.families import ScoreTables
from noisyvos.analysis.questions.differences import difference_table
from noisyvos.analysis.results import Results, load_results
from noisyvos.report import MOST_LINES, contents, pictures, score_figures
from noisyvos.report import figures as drawings
from noisyvos.report.cost import by_method, by_stage
from noisyvos.report.findings import findings
from noisyvos.report.outlines import BRIGHT, drawn, object_colours, path_of, rgb
from noisyvos.report.pictures import Example
from noisyvos.report.players import player
from noisyvos.report.score_figures import grid_means, noise_points, scatter_points
from noisyvos.stages import figures, report, tables


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables, figures and page of two methods."""
    root = make_workspace(tmp_path_factory.mktemp("page"), ("gce", "sce"))
    (root / "params").mkdir()
    (root / "params/noise.yaml").write_text(
        "clean: {kind: clean}\ndilate80: {kind: dilate, q: 0.8}\n"
    )
    out = root / "results/p"
    tables.run(**places(root), out=out / "tables", track=False)
    figures.run(**places(root), params=root / "params", clips=root / "clips", out=out / "figures")
    report.run(**places(root), figures=out / "figures", out=out / "report.html")
    return root


class Outline(HTMLParser):
    """Collects headings, links and what has no text alternative."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.levels: list[int] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.bare: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        """Note one element."""
        named = dict(attributes)
        self.ids += [named["id"]] if "id" in named else []
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag == "a":
            self.links.append(named["href"])
        if tag == "img" and not named.get("alt"):
            self.bare.append(str(named)[:80])
        if named.get("role") in ("img", "region") and not (
            named.get("aria-label") or named.get("aria-labelledby")
        ):
            self.bare.append(str(named)[:80])


def test_the_page_is_in_order_and_every_link_leads_somewhere(made: Path) -> None:
    text = (made / "results/p/report.html").read_text()
    page = Outline(text)
    assert page.levels[0] == 1
    assert set(page.levels[1:]) == {2}
    assert not page.bare
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert (made / "results/p" / link).is_file(), link
    files = {Path(link).name for link in page.links if not link.startswith("#")}
    assert {"noise-curves-val.svg", "noise-curves-val.pdf", "scores-val.csv"} <= files
    assert "scores-val.tex" in files


def test_the_page_opens_with_findings_curves_and_scores(made: Path) -> None:
    text = (made / "results/p/report.html").read_text()
    places_of = [
        text.index(mark)
        for mark in (">What was found<", 'alt="Line plots of J&amp;F', "first mask copied repeats")
    ]
    assert places_of == sorted(places_of)
    assert "Pre-registered" not in text, "the grid lacks the cells of every hypothesis"


def test_findings_are_computed_from_the_scores(tmp_path: Path) -> None:
    scores = ScoreTables(load_results(**places(make_workspace(tmp_path, ("gce", "sce")))), "val")
    noise, methods, start = findings(scores, difference_table(scores))
    # gce: 0.705 clean and 0.605 dilated, in both videos and for both seeds; sce is 5 points higher
    assert noise.startswith(
        "Label noise changes J&F of gce, 70.5 J&F with clean labels, by -10.0 [-10.0, -10.0] "
        "points under dilate80"
    )
    assert "Of 2 paired comparisons with gce" in methods
    assert "sce − gce under dilate80: +5.0 [+5.0, +5.0] points" in methods
    assert "4 of 4 pairs of method and label noise score higher, 0 lower" in start
    assert start.endswith(
        "rests on 2 seeds and 2 synthetic videos (too few seeds for their spread to be known well)."
    )


def test_findings_name_missing_cells(tmp_path: Path) -> None:
    root = make_workspace(tmp_path)
    (root / "results/p/scores/val-dilate-gce-tiny-s1-val/objects.csv").unlink()
    scores = ScoreTables(load_results(**places(root)), "val")
    assert "1 of 6 cells are missing" in findings(scores, difference_table(scores))[-1]


def test_figures_have_the_numbers_they_show(made: Path) -> None:
    results = load_results(**places(made))
    curve = noise_points(results, "val").set_index(["method", "noise"])
    row = curve.loc["sce", "dilate80"]
    assert row["JF_percent"] == pytest.approx(65.5)
    assert row["noise_percent"] == pytest.approx(19.9)
    assert (row["seeds_low"], row["seeds_high"]) == pytest.approx((65, 66))
    assert grid_means(results, "val").loc["gce", "clean"] == pytest.approx(70.5)
    videos = scatter_points(ScoreTables(results, "val"))
    dilated = videos[videos["noise"] == "dilate80"]
    assert dilated["JF_percent"].to_numpy() == pytest.approx([65.5, 65.5])
    assert dilated["reference_JF_percent"].to_numpy() == pytest.approx([60.5, 60.5])
    written = pd.read_csv(made / "results/p/figures/noise-curves-val.csv")
    assert written["JF_percent"].max() == pytest.approx(70.5)
    losses = pd.read_csv(made / "results/p/figures/memorisation.csv")
    assert set(losses["line"]) >= {"gce: memorised", "gce: corrected"}
    assert losses.loc[losses["line"] == "gce: memorised", "y"].tolist() == [0.25] * 20


def test_a_player_has_the_outlines_of_truth_and_predictions(made: Path) -> None:
    example = Example.read(load_results(**places(made)), "val", "a")
    data = player(example, "a")
    assert data["frames"] == ["00000", "00001", "00002"]
    assert data["size"] == [36, 24]
    # the square has its corner at (6, 4); outlines go through the middle of the outer pixels
    assert data["truth"][0] == {"1": "M6 4L6 11 13 11 13 4z"}
    tiles = {tile["label"]: tile for tile in data["tiles"]}
    assert tiles["gce, dilate80"]["paths"][2] == {"1": "M6 4L6 19 21 19 21 4z"}
    assert tiles["gce, dilate80"]["score"] == pytest.approx(60.0)
    assert tiles["gce, dilate80"]["scores"] == [None] * 3
    text = (made / "results/p/report.html").read_text()
    embedded = re.findall(r'<script type="application/json">(.*?)</script>', text, re.S)
    assert json.loads(embedded[0])["truth"] == data["truth"]


def test_of_many_trainings_a_video_shows_those_of_highest_and_lowest_scores(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "_MOST_TRAINED", 2)
    example = Example.read(load_results(**places(made)), "val", "a")
    trained = {label: example.score(label) for label in example.cells if "\n" in label}
    assert len(trained) == 4
    shown = [label for label in example.shown if "\n" in label]
    assert {trained[label] for label in shown} == {min(trained.values()), max(trained.values())}
    assert len(shown) == 2
    data = player(example, "a")
    assert data["left_out"] == 2
    assert len(data["tiles"]) == len(example.predictions) == len(example.shown)


def test_trainings_of_many_methods_are_matrices_with_their_values(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawings, "MOST_LINES", 1)
    monkeypatch.setattr(contents, "MOST_LINES", 1)
    results = load_results(**places(made))
    drawings.save_drawing(drawings.memorisation(results), tmp_path / "memorisation")
    cells = pd.read_csv(tmp_path / "memorisation.csv").set_index(["panel", "line", "x"])["y"]
    assert cells["memorised", "gce", "dilate80"] == pytest.approx(0.25)
    drawings.save_drawing(drawings.training_curves(results), tmp_path / "training")
    losses = pd.read_csv(tmp_path / "training.csv")
    curve = results.curve("val-dilate-gce-tiny-s0")["loss"]
    found = losses.set_index(["line", "x"])["y"]["gce", "dilate80"]
    assert found == pytest.approx(curve.tail(4).mean() / curve.head(4).mean())
    (training,) = (
        section
        for section in contents.sections(results, made / "results/p/figures")
        if section.title == "Training"
    )
    assert "a row per method" in str(training.parts[0])


def test_a_large_heat_map_has_colours_without_numbers(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = load_results(**places(made))
    small, data = score_figures.heat_map(results, "val")
    written = sorted(text.get_text() for text in small.axes[0].texts)
    assert written == ["60.5", "65.5", "70.5", "70.5"]
    monkeypatch.setattr(score_figures, "MOST_NUMBERS", 3)
    large, same = score_figures.heat_map(results, "val")
    assert not large.axes[0].texts
    pd.testing.assert_frame_equal(data, same)


def test_curves_of_many_methods_are_in_rows_whose_colours_do_not_repeat(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = [f"method{index:02}" for index in range(14)]
    monkeypatch.setattr(score_figures, "methods_of", lambda _: methods)
    points = pd.DataFrame(
        {
            "sweep": sweep,
            "method": method,
            "noise_percent": float(noise),
            "JF_percent": 60.0 - noise - place,
            **dict.fromkeys(("low", "high", "seeds_low", "seeds_high"), 60.0),
        }
        for place, method in enumerate(methods)
        for sweep, levels in {"dilate": (0, 20), "erode": (0, 30), "same": (15, 15 + 1e-11)}.items()
        for noise in levels
    )
    figure = score_figures.noise_curves(load_results(**places(made)), "val", points)
    figure.canvas.draw()
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in panels] == ["dilate", "erode", "same"] * 2
    shown = []
    for axis in panels:
        lines = [line for line in axis.lines if str(line.get_label()).startswith("method")]
        shown.append([line.get_label() for line in lines])
        assert len({line.get_color() for line in lines}) == len(lines) <= MOST_LINES
    assert shown[0] == methods[:8]
    assert shown[3] == [methods[0], *methods[8:]]
    assert sum(axis.get_legend() is not None for axis in panels) == 2
    left, right = panels[2].get_xlim()
    assert right - left == pytest.approx(1)


def test_frames_of_a_player_are_once_in_the_page(made: Path) -> None:
    text = (made / "results/p/report.html").read_text()
    players = sorted((made / "results/p/figures").glob("example-val-*.json"))
    assert players
    for path in players:
        data = json.loads(path.read_text())
        assert text.count(f"base64,{data['strip']})") >= 1
        assert f'"strip":"{data["strip"]}' not in text
    pictures = re.findall("<img [^>]*>", text)
    assert pictures
    assert all(re.search(r'height="\d+" loading="lazy"', picture) for picture in pictures)


@pytest.mark.parametrize(("rows", "columns"), [(3, 2), (40, 30)])
def test_names_of_a_heat_map_are_within_the_picture(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, columns: int
) -> None:
    lines = [f"smart_released_no_ri_{row}, xmem, davis17_ytvos19_train" for row in range(rows)]
    noises = [f"dilate{column}_persistent_ar1" for column in range(columns)]
    means = pd.DataFrame(np.random.default_rng(0).random((rows, columns)), lines, noises)
    monkeypatch.setattr(score_figures, "grid_means", lambda *_: means)
    figure, _ = score_figures.heat_map(load_results(**places(made)), "val")
    figure.canvas.draw()
    axis, width = figure.axes[0], figure.bbox.width
    for label in (*axis.get_yticklabels(), *axis.get_xticklabels(), axis.title):
        box = label.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height
    assert axis.get_window_extent().width > 0.3 * width
    drawings.save_drawing(figure, tmp_path / "map")
    with Image.open(tmp_path / "map.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    for edge in (pixels[:, :3], pixels[:, -3:], pixels[:3], pixels[-3:]):
        assert edge.min() == 255  # no letter is cut off


def test_clean_labels_come_first(tmp_path: Path) -> None:
    noises = ("dilate", "clean", "erode")
    train = {noise: {"noise": noise, "method": "gce"} for noise in noises}
    results = Results({"preset": {"name": "p"}, "train": train}, tmp_path, tmp_path, tmp_path)
    assert results.noises == ["clean", "dilate", "erode"]


def test_methods_beyond_the_colours_have_other_markers() -> None:
    looks = {(drawings.colour(index), drawings.marker(index)) for index in range(64)}
    assert len(looks) == 64


def test_the_hash_of_scores_is_over_sorted_names_and_contents(made: Path) -> None:
    root = made / "results/p"
    digest = hashlib.sha256()
    for path in sorted((root / "scores").rglob("*")):
        if path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    written = json.loads((root / "tables/inputs.json").read_text())
    assert written["scores"] == digest.hexdigest()


def test_an_object_has_a_colour_far_from_the_frame_around_it() -> None:
    mask = square(8)
    for tone in BRIGHT:
        frame = np.full((24, 36, 3), rgb(tone), np.uint8)
        assert object_colours([frame], [mask])[1] != tone
    two = mask.copy()
    two[14:20, 6:12] = 2
    assert len(set(object_colours([np.zeros((24, 36, 3), np.uint8)], [two]).values())) == 2


def test_predictions_are_outlined_in_colour_and_the_truth_in_dashes() -> None:
    frame = np.full((24, 36, 3), 60, np.uint8)
    colours = {1: BRIGHT[0]}
    predicted = drawn(frame, square(8), None, colours)
    assert predicted.shape == (192, 288, 3)
    assert tuple(predicted[32, 80]) == rgb(BRIGHT[0]), "the border of the object"
    assert tuple(predicted[10, 10]) == (60, 60, 60)
    truth = drawn(frame, None, square(8), {})
    edge = truth[32, 50:110].astype(int)
    assert (edge > 200).all(axis=1).any()
    assert (edge == 60).all(axis=1).any(), "between dashes the frame is seen"


def test_a_single_pixel_still_has_an_outline() -> None:
    mask = np.zeros((5, 5), np.uint8)
    mask[2, 3] = 4
    assert path_of(mask, 4) == "M3 2h1v1h-1z"


def test_costs_are_those_that_were_measured(tmp_path: Path) -> None:
    results = load_results(**places(make_workspace(tmp_path)))
    logs = tmp_path / "logs/benchmark"
    assert by_method(results, tmp_path / "logs").empty
    for folder, key, seconds in (
        ("train", "val-clean-gce-tiny-s0", 60),
        ("train", "val-clean-gce-tiny-s1", 120),
        ("train", "another-preset", 9000),
        ("score", "first_mask-val", 36),
    ):
        (logs / folder).mkdir(parents=True, exist_ok=True)
        (logs / folder / f"{key}.tsv").write_text(
            f"s\th:m:s\tmax_rss\tcpu_time\n{seconds}\t0:01:00\t2048\t{seconds / 2}\n"
        )
    (logs / "train/val-dilate-gce-tiny-s0.tsv").write_text("")
    (row,) = by_method(results, tmp_path / "logs").to_dict("records")
    assert (row["method"], row["trainings"]) == ("gce", 2)
    assert row["minutes each"] == "1.5 (1.0 to 2.0)"
    assert row["peak memory (GB)"] == "2.0"
    stages = by_stage(results, tmp_path / "logs").set_index("stage")
    assert stages.loc["train", "jobs"] == 2
    assert stages.loc["train", "hours"] == pytest.approx(0.05)
    assert stages.loc["score", "hours"] == pytest.approx(0.01)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_tables_compile(made: Path, tmp_path: Path) -> None:
    found = sorted((made / "results/p/tables").glob("*.tex"))
    assert {"scores-val.tex", "differences-val.tex", "hypotheses-val.tex"} <= {
        path.name for path in found
    }
    inputs = "\n".join(path.read_text() for path in found)
    (tmp_path / "all.tex").write_text(
        "\\documentclass{article}\n\\usepackage[utf8]{inputenc}\n\\usepackage{booktabs,graphicx}\n"
        f"\\begin{{document}}\n{inputs}\n\\end{{document}}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000
