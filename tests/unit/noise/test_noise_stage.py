"""The stage writes one zip and one manifest, equal for any number of workers.

It writes nothing if the noise missed its target.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from noisyvos.datasets.layout import Sequence, write_video_meta
from noisyvos.errors import UserError
from noisyvos.io.images import encode_frame
from noisyvos.io.masks import MaskCollection, encode_mask
from noisyvos.metrics import boundary_f, jaccard
from noisyvos.noise import FROM_FILES, corrupt, kinds
from noisyvos.noise.base import NOISE, NoisyVideo, Video
from noisyvos.noise.engine.calibration import compare
from noisyvos.noise.engine.manifest import record
from noisyvos.params.entries import read_entry, read_family
from noisyvos.stages import noise_preview
from noisyvos.stages.noise import run

NAMES = ("ant", "bee", "cow")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sequences of four frames with two objects that touch, a void patch in one."""
    root = tmp_path_factory.mktemp("data") / "farm"
    sequences = []
    for s, name in enumerate(NAMES):
        (root / "masks" / name).mkdir(parents=True)
        (root / "frames" / name).mkdir(parents=True)
        frames = tuple(f"{t:05d}" for t in range(4))
        for t, frame in enumerate(frames):
            mask = np.zeros((48, 72), np.uint8)
            cv2.ellipse(mask, (24 + t, 24), (11, 9), 15 * s, 0, 360, 1, -1)
            cv2.ellipse(mask, (42 + t, 24), (9, 11), 0, 0, 360, 2, -1)
            if s == 1:
                mask[:4] = 255
            (root / "masks" / name / f"{frame}.png").write_bytes(encode_mask(mask))
            (root / "frames" / name / f"{frame}.jpg").write_bytes(
                encode_frame(np.repeat(60 * mask[:, :, None], 3, axis=2))
            )
        sequences.append(Sequence(name, frames, frames, (48, 72), (1, 2)))
    write_video_meta(root, "farm", sequences)
    return root


@pytest.fixture
def params(tmp_path: Path) -> Path:
    folder = tmp_path / "params"
    folder.mkdir()
    (folder / "noise.yaml").write_text(
        "clean: {kind: clean}\n"
        "mix60: {kind: mix, q: 0.6}\n"
        "same60: {kind: dilate, q: 0.6, calib: dataset}\n"
        "tiny: {kind: dilate, q: 0.05}\n"
        "wrong: {kind: dilate, q: 1.5}\n"
        "often: {kind: mix, q: 0.5, rate: 2}\n"
        "odd: {kind: dilat, q: 0.5}\n"
        "drop20: {kind: drop, rate: 0.2}\n"
        "sparse: {kind: scribble}\n"
    )
    return folder


def call(dataset: Path, params: Path, out: Path, noise: str, **options) -> tuple[Path, Path]:
    files = out / f"{noise}.zip", out / f"{noise}.json"
    run(dataset, noise=noise, out=files[0], manifest=files[1], params=params, **options)
    return files


@pytest.mark.parametrize("noise", ["mix60", "same60", "drop20"])
def test_workers_and_repetition_change_no_byte(
    dataset: Path, params: Path, tmp_path: Path, noise: str
) -> None:
    results = [
        call(dataset, params, tmp_path / str(k), noise, workers=workers, seed=1)
        for k, workers in enumerate((1, 4, 1))
    ]
    assert len({(mask.read_bytes(), record.read_bytes()) for mask, record in results}) == 1
    other = call(dataset, params, tmp_path / "other", noise, seed=2)
    assert other[0].read_bytes() != results[0][0].read_bytes()


def test_masks_are_what_the_python_call_makes(dataset: Path, params: Path, tmp_path: Path) -> None:
    out, _ = call(dataset, params, tmp_path, "mix60", seed=5)
    clean, noisy = MaskCollection(dataset / "masks"), MaskCollection(out)
    assert noisy.sequences() == NAMES
    for name in NAMES:
        for frame in clean.frames(name):
            expected = corrupt(
                clean.read(name, frame), "mix", q=0.6, seed=5, key=("farm", name, frame)
            )
            assert np.array_equal(noisy.read(name, frame), expected)


def test_clean_is_the_identity(dataset: Path, params: Path, tmp_path: Path) -> None:
    out, manifest = call(dataset, params, tmp_path, "clean")
    clean, noisy = MaskCollection(dataset / "masks"), MaskCollection(out)
    assert all(
        np.array_equal(clean.read(s, f), noisy.read(s, f)) for s in NAMES for f in clean.frames(s)
    )
    summary = json.loads(manifest.read_text())["summary"]
    assert (summary["q_achieved"], summary["flip_rate"], summary["affected"]) == (1.0, 0.0, 0)


def test_manifest_says_what_was_achieved(dataset: Path, params: Path, tmp_path: Path) -> None:
    out, manifest = call(dataset, params, tmp_path, "mix60")
    content = json.loads(manifest.read_text())
    assert content["settings"]["q"] == 0.6
    assert content["kind"] == "mix"
    assert content["seed"] == 0
    summary = content["summary"]
    assert abs(summary["q_achieved"] - 0.6) <= 0.002
    clean, noisy = MaskCollection(dataset / "masks"), MaskCollection(out)
    flipped = labelled = 0
    for name in NAMES:
        rows = content["sequences"][name]
        assert set(
            map(
                len,
                (
                    rows[column]
                    for column in ("frame", "object", "iou", "area_ratio", "boundary_f", "rescued")
                ),
            )
        ) == {8}
        for frame in clean.frames(name):
            before, after = clean.read(name, frame), noisy.read(name, frame)
            k = next(j for j in range(8) if rows["frame"][j] == frame and rows["object"][j] == 1)
            a, b = before == 1, after == 1
            assert rows["iou"][k] == pytest.approx((a & b).sum() / (a | b).sum(), abs=1e-6)
            flipped += np.count_nonzero(before != after)
            labelled += np.count_nonzero(before != 255)
    assert summary["flip_rate"] == pytest.approx(flipped / labelled, abs=1e-6)
    parts = [
        summary[f"flip_rate_{name}"]
        for name in ("object_to_background", "background_to_object", "object_to_object")
    ]
    assert sum(parts) == pytest.approx(summary["flip_rate"], abs=3e-6)
    assert min(parts[:2]) > 0


def test_one_strength_reaches_the_mean(dataset: Path, params: Path, tmp_path: Path) -> None:
    content = json.loads(call(dataset, params, tmp_path, "same60")[1].read_text())
    assert abs(content["summary"]["q_achieved"] - 0.6) <= 0.01
    assert content["settings"]["strength"] > 0


def test_sparse_labels_report_their_coverage(dataset: Path, params: Path, tmp_path: Path) -> None:
    summary = json.loads(call(dataset, params, tmp_path, "sparse")[1].read_text())["summary"]
    assert 0 < summary["coverage"] < 0.3
    assert summary["flip_rate"] == 0


def test_the_gate_names_the_worst_sequences_and_leaves_what_was_there(
    dataset: Path, params: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny.zip").write_text("old")
    with pytest.raises(
        UserError,
        match=r"mean IoU of 0\.\d+ over 24 object-frames, not 0\.05 within 0\.01.*"
        r"Furthest off: \w+ \(0\.\d+\)",
    ):
        call(dataset, params, tmp_path, "tiny")
    assert (tmp_path / "tiny.zip").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["params", "tiny.zip"]


@pytest.mark.parametrize(
    ("noise", "seed", "message"),
    [
        ("wrong", 0, r"noise.yaml: wrong: q: .*less than or equal to 1 \(got 1.5\)"),
        ("often", 0, r"rate: .*less than or equal to 1"),
        ("odd", 0, r"Unknown noise kind 'dilat'. Did you mean 'dilate'"),
        ("mix61", 0, r"Unknown name in noise.yaml: 'mix61'. Did you mean 'mix60'"),
        ("mix60", -1, "seed"),
    ],
)
def test_bad_requests_are_refused_before_any_work(
    dataset: Path, params: Path, tmp_path: Path, noise: str, seed: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        call(dataset, params, tmp_path / "out", noise, seed=seed)
    assert not (tmp_path / "out").exists()


def test_what_is_not_a_dataset_is_refused(params: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"meta\.json"):
        call(tmp_path, params, tmp_path, "mix60")
    write_video_meta(tmp_path / "bare", "bare", [Sequence("x", ("0",), (), (4, 4), ())])
    with pytest.raises(UserError, match="no sequence has a mask"):
        call(tmp_path / "bare", params, tmp_path, "mix60")


def test_comparison_counts_by_direction() -> None:
    clean = np.array([[1, 1, 2, 0, 0, 255, 2, 1]], np.uint8)
    noisy = np.array([[1, 0, 1, 2, 0, 255, 255, 1]], np.uint8)
    change = compare(clean, noisy)
    assert (change.pixels, change.labelled, change.lost, change.gained, change.swapped) == (
        7,
        6,
        1,
        1,
        1,
    )
    assert change.iou == {1: 2 / 4, 2: 0.0}
    assert change.area_ratio == {1: 3 / 3, 2: 1.0}


def test_records_equal_measures_of_whole_frames() -> None:
    """IoU and boundary F on crops of index masks equal those of each object on the frame."""
    generator = np.random.default_rng(0)
    pairs = []
    for _ in range(12):
        clean, noisy = np.zeros((2, 90, 130), np.uint8)
        for label in (*generator.permutation([1, 2, 3, 7]).tolist(), 255):
            x, y, radius = (int(generator.integers(*each)) for each in ((130,), (90,), (2, 30)))
            cv2.circle(clean, (x, y), radius, label, -1)
            if generator.random() < 0.8:
                cv2.circle(noisy, (x + 2, y + 1), max(1, radius - 2), label, -1)
        pairs.append((clean, noisy))
    masks, wrong = zip(*pairs, strict=True)
    row = record("x", Video("morph", 0, ("x",), tuple(range(12)), masks), NoisyVideo(list(wrong)))
    assert len(row.frame) > 30
    for frame, label, iou, boundary in zip(
        row.frame, row.object, row.iou, row.boundary_f, strict=True
    ):
        clean, noisy = masks[int(frame)], wrong[int(frame)]
        assert boundary == round(boundary_f(noisy == label, clean == label), 6)
        seen = (noisy != 255) | (clean == 255)  # void in the noisy mask counts as unlabelled
        assert iou == pytest.approx(
            jaccard((noisy == label) & seen, (clean == label) & seen), abs=1e-6
        )
    assert 0 < np.mean(row.boundary_f) < 1


def test_every_named_noise_of_the_project_is_valid() -> None:
    folder = Path(__file__).resolve().parents[3] / "params"
    entries = read_family(folder, "noise")
    kinds_used = {read_entry(folder, "noise", name, NOISE)[0].name for name in entries}
    assert kinds_used == {*kinds(), *FROM_FILES}, "every kind has a name to use it by"


def test_preview_shows_every_asked_noise(dataset: Path, params: Path, tmp_path: Path) -> None:
    sizes = []
    for k, names in enumerate((["mix60"], ["mix60", "same60", "sparse", "tiny"])):
        out = tmp_path / f"{k}.png"
        noise_preview.run(dataset, out=out, noises=names, frame="bee/00001", params=params)
        sizes.append(cv2.imread(str(out)).shape)
    assert sizes[1] == (2 * sizes[0][0], sizes[0][1], 3), (
        "four tiles a row, the first of them clean"
    )
    first = out.read_bytes()
    noise_preview.run(dataset, out=out, noises=names, frame="bee/00001", params=params)
    assert out.read_bytes() == first


def test_preview_of_what_is_not_there_is_refused(
    dataset: Path, params: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no mask for frame 'bee/7'"):
        noise_preview.run(
            dataset, out=tmp_path / "x.png", frame="bee/7", noises=["mix60"], params=params
        )
    with pytest.raises(UserError, match=r"Unknown name in noise\.yaml"):
        noise_preview.run(dataset, out=tmp_path / "x.png", noises=["mix61"], params=params)
    assert not (tmp_path / "x.png").exists()
