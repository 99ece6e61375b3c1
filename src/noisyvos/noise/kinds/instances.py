"""Wrong labels of whole objects: missing annotations (drop) and identity switches (swap)."""

from pydantic import Field

from noisyvos.noise.base import NOISE, NoisyVideo, Video
from noisyvos.noise.engine.geometry import object_ids
from noisyvos.registry import Settings


class RateSettings(Settings):
    """`rate`: share of object-frames that are wrong, over the dataset."""

    rate: float = Field(
        gt=0, le=1, description="Share of object-frames that become wrong over the dataset."
    )


def frames_of_objects(video: Video) -> dict[int, list[int]]:
    """Return {object id: indices of the frames that show it}."""
    frames: dict[int, list[int]] = {}
    for t, mask in enumerate(video.masks):
        for i in object_ids(mask):
            frames.setdefault(i, []).append(t)
    return dict(sorted(frames.items()))


@NOISE.register("drop", RateSettings)
def drop(video: Video, settings: RateSettings) -> NoisyVideo:
    """Turn each object into background during one contiguous block of the frames that show it.

    The block covers the share `rate` and starts at a random frame. Its length is rounded up or down
    at random, so the rate holds on average even in short videos. The first frame keeps at least one
    object: if all would be dropped there, the block of one object starts a frame later.
    """
    frames = frames_of_objects(video)
    blocks: dict[int, list[int]] = {}
    for i, shown in frames.items():
        random = video.generator("block", i)
        length = int(settings.rate * len(shown) + random.random())
        start = int(random.integers(0, len(shown) - length + 1))
        blocks[i] = shown[start : start + length]
    at_start = [i for i, shown in frames.items() if shown[0] == 0]
    if at_start and all(0 in blocks[i] for i in at_start):
        spared = at_start[int(video.generator("spared").integers(len(at_start)))]
        blocks[spared] = frames[spared][1 : len(blocks[spared]) + 1]
    masks = [mask.copy() for mask in video.masks]
    for i, block in blocks.items():
        for t in block:
            masks[t][video.masks[t] == i] = 0
    return NoisyVideo(masks, {(t, i) for i, block in blocks.items() for t in block})


@NOISE.register("swap", RateSettings)
def swap(video: Video, settings: RateSettings) -> NoisyVideo:
    """Exchange the ids of object pairs from a random frame on (an identity switch).

    The frame is chosen so that on average `rate` of a pair's frames are wrong. It is never the
    first frame, where a switch would only rename the objects. With an odd number of objects one
    keeps its id. Videos with one object stay unchanged.
    """
    frames = frames_of_objects(video)
    random = video.generator("pairs")
    order = [int(i) for i in random.permutation(list(frames))]
    low, high = (
        (1 - 2 * settings.rate, 1.0) if settings.rate <= 0.5 else (0.0, 2 * (1 - settings.rate))
    )
    masks = [mask.copy() for mask in video.masks]
    affected: set[tuple[int, int]] = set()
    eligible = 0
    for first, second in zip(order[0::2], order[1::2]):
        start = max(1, round((low + (high - low) * float(random.random())) * len(masks)))
        eligible += len(frames[first]) + len(frames[second])
        for t in range(start, len(masks)):
            clean = video.masks[t]
            masks[t][clean == first] = second
            masks[t][clean == second] = first
        affected |= {(t, i) for i in (first, second) for t in frames[i] if t >= start}
    return NoisyVideo(masks, affected, eligible=eligible)
