"""Augmentations of a training clip: geometry alike for frames and every mask set, labels always nearest."""

from collections.abc import Callable
from functools import partial

import numpy as np

from noisyvos.datasets.augmentations.afb_urr import video_afb
from noisyvos.datasets.augmentations.aoc_net import video_aoc
from noisyvos.datasets.augmentations.pictures import Pictures
from noisyvos.datasets.augmentations.scribbles import still_scribbles, still_warped
from noisyvos.datasets.augmentations.simple import light, none
from noisyvos.datasets.augmentations.walking import video_scribbles, video_stm
from noisyvos.datasets.augmentations.xmem import still, video

Augmentation = Callable[[Pictures, tuple[int, int] | None, bool, np.random.Generator], Pictures]

AUGMENTATIONS: dict[str, Augmentation] = {
    "none": none,
    "light": light,
    "video": video,
    "video_bl30k": partial(video, area=(0.25, 1.0), steady=True),
    "video_stm": video_stm,
    "video_scribbles": video_scribbles,
    "video_afb": video_afb,
    "video_afb_near": partial(video_afb, area=(0.3, 0.5)),
    "video_aoc": video_aoc,
    "still": still,
    "still_scribbles": still_scribbles,
    "still_warped": still_warped,
}
# those whose frames may be smaller than the crop
RESIZING = frozenset(
    {
        "video",
        "video_bl30k",
        "video_stm",
        "still_warped",
        "video_scribbles",
        "video_afb",
        "video_afb_near",
        "video_aoc",
    }
)


def augment(
    name: str,
    clip: Pictures,
    crop: tuple[int, int] | None,
    *,
    rotate: bool,
    generator: np.random.Generator,
) -> Pictures:
    """Return `clip` under the augmentation `name`, frames uint8 or float32 in [0, 1]; `crop` (height, width) None keeps the size."""
    return AUGMENTATIONS[name](clip, crop, rotate, generator)
