"""`check --as`: all that convert refuses, and not only the first."""

from pathlib import Path

import numpy as np
import pytest

from noisyvos.errors import UserError
from noisyvos.io.images import encode_frame
from noisyvos.io.masks import encode_mask
from noisyvos.parallel import all_refusals, ordered_map
from noisyvos.stages import check


def _odd(number: int) -> int:
    if number % 2 == 0:
        raise UserError(f"{number} is even")
    return number


@pytest.mark.parametrize("workers", [1, 2])
def test_refused_items_are_collected_and_the_map_ends_in_an_error(workers: int) -> None:
    done = []
    with all_refusals() as refused:  # noqa: SIM117
        with pytest.raises(UserError, match="2 of 5 items are refused"):
            done += ordered_map(_odd, [1, 2, 3, 4, 5], workers, "numbers")
    assert refused == ["2 is even", "4 is even"]
    with pytest.raises(UserError, match="2 is even"):
        list(ordered_map(_odd, [1, 2, 3, 4], 1, "numbers"))
    with all_refusals() as refused:
        assert list(ordered_map(_odd, [1, 3], 1, "numbers")) == [1, 3]
    assert refused == []


def test_each_refused_sequence_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, params = tmp_path / "raw", tmp_path / "params"
    params.mkdir()
    (params / "datasets.yaml").write_text("d: {kind: folder, source: s}\n")
    mask = np.zeros((24, 36), np.uint8)
    mask[4:12, 6:14] = 1
    for name in ("a", "b", "c"):
        for folder, data, suffix in (
            ("JPEGImages", encode_frame(np.full((24, 36, 3), 90, np.uint8)), "jpg"),
            ("Annotations", encode_mask(mask), "png"),
        ):
            (raw / folder / name).mkdir(parents=True)
            for frame in range(3):
                (raw / folder / name / f"{frame:05d}.{suffix}").write_bytes(data)
    assert check.run(raw, raw_of="d", params=params, expect=None)
    for name in ("a", "c"):
        (raw / "Annotations" / name / "00001.png").write_bytes(b"no picture")
    capsys.readouterr()
    assert not check.run(raw, raw_of="d", params=params, expect=None)
    said = capsys.readouterr().out
    assert "a/00001.png" in said
    assert "c/00001.png" in said
    assert "NOT usable" in said
