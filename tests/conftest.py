"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests start many Pythons: without bytecode each of them would compile the package again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

SHARED = Path(os.environ.get("NOISYVOS_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-xdist keep the order below; by itself it begins with groups of many tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes share the tests, let one process make what tests of a file share.

    The long runs come first: no process then ends up alone.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    items.sort(key=lambda item: "workflow" not in item.path.parts)
    for item in items:
        if item.get_closest_marker("xdist_group") is None and (group := group_of(item)):
            item.add_marker(pytest.mark.xdist_group(group))


def group_of(item: pytest.Item) -> str:
    """Return the file of a test that has fixtures of its module, with their parameters.

    It is empty for a test that shares nothing.
    """
    fixtures = getattr(item, "_fixtureinfo", None)
    known = fixtures.name2fixturedefs if fixtures else {}
    shared = [name for name, found in known.items() if found[-1].scope == "module"]
    call = getattr(item, "callspec", None)
    chosen = [str(call.params[name]) for name in shared if call and name in call.params]
    return "-".join([item.nodeid.partition("::")[0], *chosen]) if shared else ""


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside the repository (parity values, real samples).

    The test skips without it.
    """
    if not SHARED.is_dir():
        pytest.skip("the folder of reference material is not here (set NOISYVOS_SHARED to it)")
    return SHARED
