"""Stage `download`: its report of missing material, and its list of complete material."""

import hashlib
import json
from pathlib import Path

import pytest

from noisyvos.errors import UserError
from noisyvos.stages import download

PARAMS = Path(__file__).resolve().parents[3] / "params"


def put_clip(raw: Path) -> None:
    for path in ("JPEGImages/480p/cat/00000.jpg", "Annotations/480p/cat/00000.png"):
        (raw / path).parent.mkdir(parents=True)
        (raw / path).write_bytes(path.encode())


def test_missing_folder_tells_all_there_is_to_do(tmp_path: Path) -> None:
    raw, out = tmp_path / "long_videos", tmp_path / "long_videos.json"
    with pytest.raises(UserError) as error:
        download.run("long_videos", raw=raw, out=out, params=PARAMS)
    text = str(error.value)
    for part in (
        f"{raw} does not exist yet",
        "Long Videos",
        "https://www.kaggle.com/gvclsu/long-videos",
        "academic use",
        "an account of Kaggle",
        "JPEGImages/*, at least 3  (one folder of .jpg frames for each video)",
        f"ln -s /path/to/the/folder {raw}",
        f"noisyvos download --source long_videos --raw {raw} --out {out}",
    ):
        assert part in text
    assert not out.exists()


def test_fetching_waits_for_the_licence(tmp_path: Path) -> None:
    raw, out = tmp_path / "davis17", tmp_path / "davis17.json"
    with pytest.raises(UserError) as error:
        download.run("davis17", raw=raw, out=out, params=PARAMS)
    text = str(error.value)
    for part in (
        "https://data.vision.ee.ethz.ch/csergi/share/davis/DAVIS-2017-trainval-480p.zip",
        "CC BY-NC 4.0",
        "ImageSets/2017/val.txt",
        f"noisyvos download --source davis17 --raw {raw} --out {out} --accept-licence",
        f"ln -s /path/to/the/folder {raw}",
    ):
        assert part in text
    assert not list(tmp_path.iterdir())


def test_incomplete_folder_names_what_lacks(tmp_path: Path) -> None:
    put_clip(tmp_path / "clips")
    (tmp_path / "clips/Annotations/480p/cat/00000.png").unlink()
    with pytest.raises(
        UserError,
        match=r"not complete(.|\n)*Missing:\n  Annotations/\*\*/\*\.\* .*: none found\nWhat it is",
    ):
        download.run("clips", raw=tmp_path / "clips", out=tmp_path / "clips.json", params=PARAMS)
    assert not (tmp_path / "clips.json").exists()


def test_link_to_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "clips").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match=r"is a link to .*gone, which does not exist"):
        download.run("clips", raw=tmp_path / "clips", out=tmp_path / "clips.json", params=PARAMS)


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "clips").write_text("x")
    with pytest.raises(UserError, match="a folder is needed here, but this is a file"):
        download.run("clips", raw=tmp_path / "clips", out=tmp_path / "clips.json", params=PARAMS)


def test_list_has_size_and_digest_of_every_file(tmp_path: Path) -> None:
    put_clip(tmp_path / "clips")
    download.run(
        "clips", raw=tmp_path / "clips", out=tmp_path / "lists" / "clips.json", params=PARAMS
    )
    paths = ["Annotations/480p/cat/00000.png", "JPEGImages/480p/cat/00000.jpg"]
    assert json.loads((tmp_path / "lists" / "clips.json").read_text()) == [
        {"path": path, "size": len(path), "sha256": hashlib.sha256(path.encode()).hexdigest()}
        for path in paths
    ]


def test_generated_source_needs_no_download(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    download.run("shapes", raw=tmp_path / "shapes", out=tmp_path / "shapes.json", params=PARAMS)
    assert "nothing to download" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("source", "folder", "files"),
    [("clips", "real-clips", 609), ("clip_images", "coco-sample", 40)],
)
def test_real_samples_pass_through_a_link(
    shared: Path, tmp_path: Path, source: str, folder: str, files: int
) -> None:
    raw = tmp_path / source
    raw.symlink_to(shared / "data" / folder, target_is_directory=True)
    download.run(source, raw=raw, out=tmp_path / "list.json", params=PARAMS)
    assert len(json.loads((tmp_path / "list.json").read_text())) == files
