"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(os.environ.get("NOISYVOS_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the long runs if several processes share the tests: none then ends up alone."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: "workflow" not in item.path.parts)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside the repository (parity values, real samples).

    The test skips without it.
    """
    if not SHARED.is_dir():
        pytest.skip("the folder of reference material is not here (set NOISYVOS_SHARED to it)")
    return SHARED
