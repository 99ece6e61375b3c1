"""Fixtures for comparisons with published reference values."""

import importlib.util
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="session")
def parity_weights(shared) -> ModuleType:
    """The recipe of the reference weights, images and masks."""
    spec = importlib.util.spec_from_file_location(
        "parity_weights", shared / "parity" / "weights.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def xmem_expected(shared):
    """The reference arrays of XMem."""
    with np.load(shared / "parity" / "xmem.npz") as file:
        yield file


@pytest.fixture(scope="session")
def xmem_state(shared, parity_weights) -> dict:
    """The reference weights of XMem."""
    values = parity_weights.fill_state_dict(
        parity_weights.load_shapes(shared / "parity" / "xmem.keys.json")
    )
    values["decoder.pred.bias"] = values["decoder.pred.bias"] - 5.4
    return values


@pytest.fixture(scope="session")
def xmem_model(xmem_state):
    """XMem at its published size with the reference weights."""
    from noisyvos import models

    return models.load_official("xmem", xmem_state)
