"""Random streams keyed by what they are drawn for, never by worker count, order or time."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_for(*key: str | int | float) -> int:
    """Return a 64-bit seed for `key`, e.g. (seed, dataset, sequence, frame, object).

    Equal keys give equal seeds on any machine.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def numpy_generator(*key: str | int | float) -> np.random.Generator:
    """Return a counter-based (Philox) numpy generator for `key`."""
    return np.random.Generator(np.random.Philox(key=seed_for(*key)))


def torch_generator(*key: str | int | float) -> "torch.Generator":
    """Return a torch CPU generator for `key`."""
    import torch

    generator = torch.Generator()
    generator.manual_seed(seed_for(*key) & 0x7FFF_FFFF_FFFF_FFFF)
    return generator
