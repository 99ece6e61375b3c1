"""Readers of training clips.

They read annotated videos (noisy masks are joined to frames by name) or 3-frame clips of still
images, stored or made on demand. A reader hands out clips by number; `datasets.sampling` decides
which frames. Small data stays decoded in memory, large data is read frame by frame.
"""

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from noisyvos.datasets.augmentations.base import stacked
from noisyvos.datasets.layout import Sequence, VideoDataset
from noisyvos.datasets.sampling import SAMPLERS, divided_jump, unit_at
from noisyvos.errors import UserError
from noisyvos.io.masks import VOID, MaskCollection
from noisyvos.seeding import numpy_generator

CLIP_FRAMES = 3  # of clips of still images
CACHE_BYTES = 512 * 2**20  # decoded data up to this size stays in memory


@dataclass(frozen=True)
class Drawing:
    """How the frames of a clip are drawn from a video."""

    jump: int  # the largest, in annotated frames
    reverse: float = 0.0  # probability of showing the clip backwards
    sampler: str = "near"  # one of SAMPLERS


@dataclass(frozen=True)
class Sample:
    """A clip before augmentation: frames (T, H, W, 3) and masks (T, H, W), all uint8.

    Clean masks (T, H, W) where they are known.
    """

    frames: np.ndarray
    masks: np.ndarray
    clean: np.ndarray | None
    key: tuple[str, ...]  # (dataset, sequence, frame 0, ..., frame T-1)


class ClipReader(Protocol):
    """What batches are made from."""

    name: str  # of the data, part of every random key

    def __len__(self) -> int:
        """Return the number of samples of an epoch."""

    def unit(self, position: int, seed: int) -> int:
        """Return which video (or clip) is sample number `position` of a training."""

    def clip(
        self, unit: int, *, length: int, how: Drawing, clean: bool, generator: np.random.Generator
    ) -> Sample:
        """Return a clip of `length` frames of video (or still-image clip) number `unit`."""

    def sizes(self) -> set[tuple[int, int]]:
        """Return the frame sizes (height, width) that occur."""


class VideoClips:
    """Clips of annotated frames of a converted video dataset.

    `masks` replaces the dataset's own (clean) masks as labels. In a mix, each video comes as often
    in an epoch as its part says, or each sample draws a part and then one of the part's videos.
    """

    def __init__(
        self,
        root: Path,
        masks: Path | None,
        clip_length: int,
        cache_bytes: int = CACHE_BYTES,
        left_out: Collection[str] = (),
    ) -> None:
        self.left_out = frozenset(left_out)  # videos that the labels do not cover
        self.dataset = VideoDataset(root)
        self.name = str(self.dataset.meta.get("name", root.name))
        self.masks_path = masks or self.dataset.masks_path
        self.same_labels = masks is None
        self._collections: dict[tuple[int, Path], MaskCollection] = {}
        self._kept: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        self._check()
        self.videos = [
            video
            for video in self.dataset.sequences.values()
            if len(video.masks) >= clip_length and video.name not in self.left_out
        ]
        if not self.videos:
            raise UserError(
                f"{root}: no video has {clip_length} annotated frames, which a training clip needs."
            )
        self._check_objects()
        self._epoch = [
            index for index, video in enumerate(self.videos) for _ in range(video.repeat)
        ]
        self._shares = self._parts(self.dataset.meta.get("shares", {}))
        pixels = sum(len(s.masks) * s.size[0] * s.size[1] for s in self.videos)
        self.in_memory = 5 * pixels <= cache_bytes

    def _check(self) -> None:
        """Refuse labels that lack a frame, before anything is trained on them."""
        labels = self._masks(self.masks_path)
        for sequence in self.dataset.sequences.values():
            if sequence.name in self.left_out:
                continue
            missing = sorted(set(sequence.masks) - set(labels.frames(sequence.name)))
            if missing:
                raise UserError(
                    f"{self.masks_path}: {len(missing)} masks of sequence {sequence.name!r} are "
                    f"missing, the first is {sequence.name}/{missing[0]}.png. "
                    "Make these labels again for this dataset."
                )

    def _check_objects(self) -> None:
        """Refuse labels without any object: the loss would be 0 and nothing would be learnt.

        This reads masks up to the first one that names an object, most often a single one.
        """
        for video in self.videos:
            for frame in video.masks:
                if (self.labels(video, frame) % VOID).any():
                    return
        raise UserError(
            f"{self.masks_path}: no mask of these labels names an object, so there is nothing to "
            "learn from them. Make them again, with less noise."
        )

    def _parts(self, shares: dict[str, float]) -> list[tuple[float, list[int]]]:
        """Return the share of samples and the videos of each part of a mix.

        UserError if no video of a part is long enough.
        """
        videos = {
            name: [
                i for i, video in enumerate(self.videos) if video.origin and video.origin[0] == name
            ]
            for name in shares
        }
        for name, found in videos.items():
            if not found:
                raise UserError(
                    f"{self.dataset.root}: no video of part {name!r} is long enough for a clip, "
                    "but it has a share of the samples."
                )
        return [(share, videos[name]) for name, share in shares.items()]

    def _masks(self, path: Path) -> MaskCollection:
        """Return the collection at `path`, opened once per process: a fork breaks an open zip."""
        key = (os.getpid(), path)
        if key not in self._collections:
            self._collections[key] = MaskCollection(path)
        return self._collections[key]

    def _read_mask(self, path: Path, sequence: Sequence, frame: str) -> np.ndarray:
        mask = self._masks(path).read(sequence.name, frame)
        if mask.shape != sequence.size:
            raise UserError(
                f"{path}: {sequence.name}/{frame}.png is {mask.shape}, "
                f"its frames are {sequence.size} (height, width)."
            )
        return mask

    def labels(self, sequence: Sequence, frame: str) -> np.ndarray:
        """Return the given labels of a frame, (H, W) uint8."""
        return self._read_mask(self.masks_path, sequence, frame)

    def with_labels(self, masks: Path, clip_length: int) -> "VideoClips":
        """Return the same videos with other labels."""
        return VideoClips(self.dataset.root, masks, clip_length, left_out=self.left_out)

    def _read_frame(self, sequence: Sequence, frame: str) -> np.ndarray:
        picture = self.dataset.read_frame(sequence.name, frame)
        if picture.shape[:2] != sequence.size:
            raise UserError(
                f"{self.dataset.frame_path(sequence.name, frame)} is {picture.shape[:2]}, "
                f"not {sequence.size} (height, width)."
            )
        return picture

    def _read(
        self, sequence: Sequence, frames: list[str], clean: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        def read_masks(path: Path) -> np.ndarray:
            return stacked((self._read_mask(path, sequence, name) for name in frames), len(frames))

        pictures = stacked((self._read_frame(sequence, name) for name in frames), len(frames))
        masks = read_masks(self.masks_path)
        truth = clean and not self.same_labels
        return pictures, masks, read_masks(self.dataset.masks_path) if truth else masks

    def __len__(self) -> int:
        return len(self._epoch)

    def unit(self, position: int, seed: int) -> int:
        """Return the number of the video of sample `position`."""
        if not self._shares:
            return self._epoch[unit_at(position, len(self._epoch), seed=seed, name=self.name)]
        generator = numpy_generator("part", seed, self.name, position)
        part = int(generator.choice(len(self._shares), p=[share for share, _ in self._shares]))
        videos = self._shares[part][1]
        return videos[int(generator.integers(len(videos)))]

    def sizes(self) -> set[tuple[int, int]]:
        """Return the frame sizes (height, width) that occur."""
        return {video.size for video in self.videos}

    def clip(
        self, unit: int, *, length: int, how: Drawing, clean: bool, generator: np.random.Generator
    ) -> Sample:
        """Return a clip of `length` annotated frames of video number `unit`."""
        video = self.videos[unit]
        jump = divided_jump(how.sampler, how.jump, video.jump_divisor)
        chosen = SAMPLERS[how.sampler](len(video.masks), length, jump, how.reverse, generator)
        names = [video.masks[index] for index in chosen]
        if not self.in_memory:
            frames, masks, truth = self._read(video, names, clean)
        else:
            if video.name not in self._kept:
                self._kept[video.name] = self._read(video, list(video.masks), True)
            frames, masks, truth = (array[chosen] for array in self._kept[video.name])
        return Sample(frames, masks, truth if clean else None, (self.name, video.name, *names))


class StoredClips:
    """Ready-made clips of still images (`synth`)."""

    def __init__(self, path: Path, clip_length: int, cache_bytes: int = CACHE_BYTES) -> None:
        from noisyvos.synth.shards import ClipShards

        self.name = path.name
        self._read: Callable[[int], tuple[np.ndarray, np.ndarray]] = ClipShards(path).read
        self._length = len(ClipShards(path))
        if not self._length:
            raise UserError(f"{path}: it holds no clip.")
        frames, _ = self._read(0)
        _check_length(path, len(frames), clip_length)
        if not any((self._read(number)[1] % VOID).any() for number in range(self._length)):
            raise UserError(f"{path}: no clip holds an object, so there is nothing to learn.")
        self._size = frames.shape[1:3]
        self.in_memory = 4 * frames[..., 0].size * self._length <= cache_bytes
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return self._length

    def unit(self, position: int, seed: int) -> int:
        """Return the number of the clip of sample `position`."""
        return unit_at(position, self._length, seed=seed, name=self.name)

    def sizes(self) -> set[tuple[int, int]]:
        """Return the frame sizes (height, width) that occur."""
        return {self._size}

    def clip(
        self, unit: int, *, length: int, how: Drawing, clean: bool, generator: np.random.Generator
    ) -> Sample:
        """Return clip number `unit` in its stored order of frames; it has no clean labels."""
        frames, masks = self._kept[unit] if unit in self._kept else self._read(unit)
        if self.in_memory:
            self._kept[unit] = (frames, masks)
        return _still_sample(self.name, unit, frames[:length], masks[:length])


class LiveClips:
    """Clips of still images made on demand.

    In the first epoch they are those that `synth` stores, afterwards new ones.
    """

    def __init__(
        self, images: Path, recipe: str, params: Path, clip_length: int, seed: int = 0
    ) -> None:
        from noisyvos.params.entries import read_entry
        from noisyvos.synth.recipe import RECIPES

        kind, settings = read_entry(params, "synth", recipe, RECIPES)
        # Random keys hold the name, so it equals that of the stored clips.
        self.name = f"{images.name}-{recipe}-s{seed}"
        self._series = kind.build(images, settings, seed)
        self._length, self._crop = settings.clips, settings.crop  # type: ignore[attr-defined]
        _check_length(images, CLIP_FRAMES, clip_length)

    def __len__(self) -> int:
        return self._length

    def unit(self, position: int, seed: int) -> int:
        """Return the number of the clip of sample `position`."""
        return unit_at(position, self._length, seed=seed, name=self.name, endless=True)

    def sizes(self) -> set[tuple[int, int]]:
        """Return the frame sizes (height, width) that occur."""
        return {(self._crop, self._crop)}

    def clip(
        self, unit: int, *, length: int, how: Drawing, clean: bool, generator: np.random.Generator
    ) -> Sample:
        """Return clip number `unit`, exactly as it would come out of a shard."""
        frames, masks = self._series.read(unit)
        return _still_sample(self.name, unit, frames[:length], masks[:length])


def _still_sample(name: str, unit: int, frames: np.ndarray, masks: np.ndarray) -> Sample:
    return Sample(frames, masks, None, (name, str(unit), *(str(t) for t in range(len(frames)))))


def _check_length(path: Path, frames: int, clip_length: int) -> None:
    if clip_length > frames:
        raise UserError(
            f"{path}: these clips have {frames} frames, the schedule wants {clip_length}: "
            "lower `clip_length`."
        )
