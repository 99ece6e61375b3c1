"""Sensor noise: independent Gaussian noise on every pixel and channel."""

import numpy as np
from pydantic import Field

from noisyvos.corruptions.base import CORRUPTIONS
from noisyvos.registry import Settings


class GaussianNoiseSettings(Settings):
    """`sigma`: standard deviation in grey levels (0 to 255). The benchmark uses 5, 10 and 30."""

    sigma: float = Field(
        gt=0,
        le=255,
        description=(
            "Standard deviation in grey levels (0 to 255). The benchmark uses 5, 10 and 30."
        ),
    )


@CORRUPTIONS.register("gaussian_noise", GaussianNoiseSettings)
def gaussian_noise(
    frame: np.ndarray, settings: GaussianNoiseSettings, generator: np.random.Generator
) -> np.ndarray:
    """Add N(0, sigma^2) without clipping."""
    return frame + np.float32(settings.sigma) * generator.standard_normal(
        frame.shape, dtype=np.float32
    )
