"""The unifier of still-image sets against the output of the published one.

Indices, palette, image bytes.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noisyvos.datasets.stills import SETS
from noisyvos.stages import unify


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("workers", [1, 2])
def test_matches_the_published_converter(
    shared: Path, tmp_path: Path, name: str, workers: int
) -> None:
    fixture = shared / "parity" / "unify"
    unify.run(name.lower(), source=fixture / "src" / name, destination=tmp_path, workers=workers)
    for kind in ("JPEGImages", "Annotations"):
        expected = sorted((fixture / "dst" / kind / name).iterdir())
        assert [path.name for path in sorted((tmp_path / kind / name).iterdir())] == [
            path.name for path in expected
        ]
        for path in expected:
            made = tmp_path / kind / name / path.name
            if kind == "JPEGImages":
                assert made.read_bytes() == path.read_bytes()
                continue
            ours, theirs = Image.open(made), Image.open(path)
            assert ours.mode == theirs.mode == "P"
            assert ours.getpalette() == theirs.getpalette()
            np.testing.assert_array_equal(np.array(ours), np.array(theirs))
