"""Contact sheets of videos, images and clips.

What is shown, that masks lie where they belong, refusals.
"""

from pathlib import Path

import cv2
import miniatures as mini
import numpy as np
import pytest
import yaml

from noisyvos.datasets.layout import VideoDataset
from noisyvos.errors import UserError
from noisyvos.io.masks import davis_palette
from noisyvos.media.contact_sheets import HEIGHT, Strip, Tile, draw, spread, strips_of
from noisyvos.stages import describe, synth


def test_places_are_spread_evenly_with_both_ends() -> None:
    assert spread(3, 6) == [0, 1, 2]
    assert spread(10, 4) == [0, 3, 6, 9]
    assert spread(10, 1) == [0]


def test_masks_lie_on_their_pixels() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:40] = 2
    tile = Tile(np.full((40, 60, 3), 100, np.uint8), mask, "a")
    picture = draw([Strip("title", [tile])])[20 : 20 + HEIGHT, : round(60 * HEIGHT / 40)]
    colour = np.round(0.55 * 100 + 0.45 * davis_palette()[2])
    np.testing.assert_array_equal(picture[HEIGHT // 2, 30 * HEIGHT // 40], colour)
    tinted = (picture == colour).all(2).mean()
    assert abs(tinted - 20 * 20 / (40 * 60)) < 0.02
    np.testing.assert_array_equal(picture[2, 2], [100, 100, 100])


def test_video_shows_annotated_frames_first_and_says_which_have_no_mask(tmp_path: Path) -> None:
    root = mini.convert(
        tmp_path,
        "yt",
        mini.youtube_vos(tmp_path / "raw"),
        {"kind": "youtube_vos", "split": "valid", "all_frames": True},
    )
    (strip,) = strips_of(root, 6)
    assert strip.title == "77aa: 72x48, 26 frames, 2 masks, objects 1, 2, 5 results wanted"
    shown = {tile.caption.split()[0]: tile.mask for tile in strip.tiles}
    np.testing.assert_array_equal(shown["00010"], VideoDataset(root).read_mask("77aa", "00010"))
    assert [tile.caption for tile in strip.tiles if tile.mask is None] == [
        f"{name} no mask" for name in shown if shown[name] is None
    ]
    assert len(strip.tiles) == 6


def test_images_and_clips(tmp_path: Path) -> None:
    root = mini.convert(tmp_path, "stills", mini.static(tmp_path / "raw"), {"kind": "static"})
    strips = strips_of(root, 2)
    assert [len(strip.tiles) for strip in strips] == [3, 3]
    np.testing.assert_array_equal(
        strips[0].tiles[0].mask > 0, mini.still_mask(tmp_path / "again.png", 0)
    )
    (tmp_path / "params" / "synth.yaml").write_text(
        yaml.safe_dump({"few": {"kind": "coco_clips", "clips": 3, "crop": 48}})
    )
    synth.run(root, recipe="few", out=tmp_path / "clips", seed=0, params=tmp_path / "params")
    assert [len(strip.tiles) for strip in strips_of(tmp_path / "clips", 2)] == [6, 3]


def test_sheet_is_the_same_every_time(tmp_path: Path) -> None:
    root = mini.convert(
        tmp_path, "long", mini.long_videos(tmp_path / "raw"), {"kind": "long_videos"}
    )
    for name in ("one.png", "two.png"):
        describe.run(root, out=tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert cv2.imread(str(tmp_path / "one.png")).shape[0] == 20 + HEIGHT + 16 + 4


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ends in .png"):
        describe.run(tmp_path, out=tmp_path / "sheet.jpg")
    with pytest.raises(UserError, match="neither a converted dataset nor a folder of clips"):
        describe.run(tmp_path, out=tmp_path / "sheet.png")
