"""The code in docs/extending.md is real: it is taken out of the page, registered and used."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from noisyvos.datasets.base import DATASETS, Conversion
from noisyvos.datasets.layout import VideoDataset
from noisyvos.io.images import encode_frame
from noisyvos.io.masks import encode_mask
from noisyvos.methods.base import METHODS
from noisyvos.noise.base import NOISE, Video

PAGE = Path(__file__).resolve().parents[2] / "docs/extending.md"
BLOCKS = {
    name: code
    for name, code in re.findall(
        r"```python\n# src/noisyvos/\S+/(\w+)\.py\n(.*?)```",
        PAGE.read_text(encoding="utf-8"),
        flags=re.S,
    )
}


def taken(name: str, registry) -> object:
    """Run the block `name` as a module and return the item that it registered, which is taken out again."""
    registry.names()  # the package's own modules first
    exec(compile(BLOCKS[name], f"{name}.py", "exec"), {"__name__": f"example_{name}"})
    item = registry.get(name)
    del registry._items[name]
    return item


def test_the_page_has_the_examples() -> None:
    assert set(BLOCKS) == {"focal", "mirror", "stills"}
    assert BLOCKS["focal"] in (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")


def test_method_example_is_cross_entropy_without_its_factor_and_ignores_void() -> None:
    item = taken("focal", METHODS)
    logits = (
        torch.randn(2, 3, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        .float()
        .requires_grad_()
    )
    target = torch.zeros(2, 5, 6, dtype=torch.long)
    target[:, 2:] = 1
    target[:, 4] = 255
    plain = item.build(item.settings(gamma=0.0), None).terms(
        logits, target, num_objects=torch.tensor([2, 2])
    )["total"]
    expected = torch.nn.functional.cross_entropy(logits, target, ignore_index=255)
    assert plain.item() == pytest.approx(expected.item(), rel=1e-6)
    item.build(item.settings(), None).terms(logits, target, num_objects=torch.tensor([1, 2]))[
        "total"
    ].backward()
    assert logits.grad[:, :, 4].abs().sum() == 0
    assert logits.grad[0, 2].abs().sum() == 0
    assert torch.isfinite(logits.grad).all()


def test_noise_example_mirrors_and_keeps_void() -> None:
    item = taken("mirror", NOISE)
    mask = np.zeros((4, 6), np.uint8)
    mask[1, :2], mask[3, 5] = 1, 255
    video = Video("mirror", 0, ("d", "s"), ("00000",), (mask,))
    always, never = (item.build(video, item.settings(rate=rate)) for rate in (1.0, 0.0))
    assert (always.masks[0][1] == [0, 0, 0, 0, 1, 1]).all()
    assert always.masks[0][3, 5] == 255
    assert always.affected == {(0, 1)}
    assert (never.masks[0] == mask).all()


def test_dataset_example_makes_a_dataset_that_reads_back(tmp_path: Path) -> None:
    item = taken("stills", DATASETS)
    (tmp_path / "raw").mkdir()
    mask = np.zeros((8, 9), np.uint8)
    mask[2:4] = 3
    (tmp_path / "raw/cat.jpg").write_bytes(encode_frame(np.full((8, 9, 3), 50, np.uint8)))
    (tmp_path / "raw/cat.png").write_bytes(encode_mask(mask))
    (tmp_path / "out").mkdir()
    assert (
        item.build(
            Conversion("pets", tmp_path / "raw", tmp_path / "out"), item.settings(source="pets")
        )
        == "1 stills"
    )
    dataset = VideoDataset(tmp_path / "out")
    assert dataset.sequences["cat"].objects == (3,)
    assert (dataset.read_mask("cat", "00000") == mask).all()
