"""Lists and JSON files as users reported them: the right names, or a refusal that helps.

The reports are listed in docs/reference/material.md, and `test_material_page.py` compares.
"""

import codecs
import json
from pathlib import Path

import pytest
from material import IDS, converted, folder

from noisyvos.datasets.layout import VideoDataset
from noisyvos.errors import UserError
from noisyvos.io.masks import encode_mask
from noisyvos.io.text import read_json, read_names
from noisyvos.stages.score import Task
from noisyvos.stages.score import run as score

MASK = encode_mask(IDS)
# the bytes of a list, and the sequences that it names or what the refusal says
LISTS: dict[str, tuple[bytes, list[str] | str]] = {
    "vilcans/screenplain#5": (codecs.BOM_UTF8 + b"car\ndog\n", ["car", "dog"]),
    "jfisteus/eyegrade#70": (codecs.BOM_UTF8 + b"car\r\ndog", ["car", "dog"]),
    "python/cpython#88676": (codecs.BOM_UTF8 + b"car\n", ["car"]),
    "ssaru/convert2Yolo#6": ("car\r\ndog".encode("utf-16"), ["car", "dog"]),
    "wkentaro/labelme#155": ("\u732b\n\u72ac\n".encode(), ["\u732b", "\u72ac"]),
    "wkentaro/labelme#683": ("\u6c7d\u8f66\n".encode("gb18030"), "not a text file in UTF-8"),
    "pjreddie/darknet#2391": (b"car\r\nmy dog\r\n", ["car", "my dog"]),
    "githubharald/SimpleHTR#15": (b"car\n\n\ndog\n\n", ["car", "dog"]),
    "jrkerns/pylinac#37": (b"\n  car  \n\n\tdog\n \n", ["car", "dog"]),
    "ContinualAI/avalanche#505": (b"car\ndog\n\n", ["car", "dog"]),
    "argonne-lcf/Megatron-DeepSpeed#16": (b"car\n \n", ["car"]),
    "wkentaro/labelme#299": (b"..\\ResizeImage\\car\n", "leads out of its folder"),
}


@pytest.mark.parametrize("report", LISTS)
def test_lists_name_the_same_sequences_everywhere(report: str, tmp_path: Path) -> None:
    data, wanted = LISTS[report]
    path = tmp_path / "list.txt"
    path.write_bytes(data)
    if isinstance(wanted, str):
        with pytest.raises(UserError, match=rf"list\.txt: .*{wanted}"):
            read_names(path)
        return
    assert read_names(path) == wanted
    raw = tmp_path / "raw"
    for name in [*wanted, "other"]:
        folder(raw, MASK, name)
    path.rename(raw / "list.txt")
    data_set = VideoDataset(converted(raw, sequences_file="list.txt"))
    assert sorted(data_set.sequences) == sorted(wanted)
    truth = raw / "Annotations"
    task = Task(truth, truth, tmp_path / "scores", "all_frames", split=raw / "list.txt")
    assert list(score(task).scored_sequences) == wanted


VIDEOS = {"videos": {"car": {"objects": {"1": {"frames": ["00000"]}}}}}
JSON: dict[str, tuple[bytes, str | None]] = {
    "langchain-ai/langchain-community#138": (codecs.BOM_UTF8 + json.dumps(VIDEOS).encode(), None),
    "metalsmith/metadata#20": (codecs.BOM_UTF8 + json.dumps(VIDEOS).encode(), None),
    "wwwpf/QzoneExporter#32": (codecs.BOM_UTF8 + json.dumps(VIDEOS, indent=1).encode(), None),
    "wkentaro/labelme#922": (
        b'{"a": "' + "\u6c7d\u8f66".encode("gb18030") + b'"}',
        "not a text file in UTF-8",
    ),
    "wkentaro/labelme#1246": (json.dumps(VIDEOS).encode()[:-4], "is cut off after"),
}


@pytest.mark.parametrize("report", JSON)
def test_json_files_are_read_or_refused_by_name(report: str, tmp_path: Path) -> None:
    data, message = JSON[report]
    path = tmp_path / "meta.json"
    path.write_bytes(data)
    if message is None:
        assert read_json(path) == VIDEOS
        return
    with pytest.raises(UserError, match=rf"meta\.json: .*{message}"):
        read_json(path)


OTHER = {
    b"": "this JSON file is empty",
    b"{'videos': {}}": "is not valid JSON",
    b'{"a": "\0"}': "it holds zero bytes",
}


@pytest.mark.parametrize("data", OTHER)
def test_damaged_json_is_told_apart(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_bytes(data)
    with pytest.raises(UserError, match=OTHER[data]):
        read_json(tmp_path / "meta.json")
