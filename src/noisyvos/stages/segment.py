"""Command `segment`: a person's own clip, from the mask of its first frame."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from noisyvos.errors import UserError
from noisyvos.inference.annotations import check_annotations
from noisyvos.inference.prefetch import ahead
from noisyvos.inference.runner import open_runner
from noisyvos.io.atomic import atomic_directory
from noisyvos.io.files import mask_files
from noisyvos.io.masks import decode_mask, encode_mask
from noisyvos.media.overlays import overlay
from noisyvos.media.video_reader import ImageClip, MovieClip, open_clip
from noisyvos.media.video_writer import movie_writer


def run(
    video: Path,
    mask: Path,
    *,
    out: Path,
    model: str,
    weights: str,
    movie: Path | None = None,
    overlays: bool = False,
    size: int | None = None,
    settings: str = "default",
    params: Path = Path("params"),
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Write OUT/masks/<frame>.png for every frame of a movie or a folder of images, one frame in memory at a time.

    `mask` is the index mask of the first frame, or a folder of masks named as frames (objects that appear later). `movie`
    is an MP4 to write with the masks drawn on the frames, `overlays` puts the same pictures into OUT/overlays. `size`
    goes before the one of the entry `settings` of eval.yaml. Everything is checked before the network is built;
    UserError or FileNotFoundError say what is wrong.
    """
    clip = open_clip(video)
    masks = read_masks(mask, clip)
    _check_outputs(out, movie, overlays, inputs=(video, mask))
    runner = open_runner(
        model, weights, settings, params, size=size, device=device, threads=threads
    )
    frames = (_KeptImages if isinstance(clip, ImageClip) else _Kept)(clip)
    count = 0
    with ExitStack() as stack:
        folder = stack.enter_context(atomic_directory(out / "masks"))
        draw = _drawer(stack, out, movie, overlays, next(iter(masks.values())).shape, clip)
        results = runner.segment(frames, masks)
        for result in tqdm(
            results,
            total=len(clip) if isinstance(clip, ImageClip) else None,
            desc="segment",
            unit="frame",
            disable=None,
        ):
            name = clip.name(count)
            (folder / f"{name}.png").write_bytes(encode_mask(result.mask))
            draw(name, frames.oldest(), result.mask)
            count += 1
    objects = sorted(
        {int(number) for given in masks.values() for number in np.unique(given)} - {0, 255}
    )
    print(
        f"{model}: {count} frames of {video.name}, objects {', '.join(map(str, objects))}, masks in {out / 'masks'}"
    )


def read_masks(path: Path, clip: ImageClip | MovieClip) -> dict[int, np.ndarray]:
    """Return {frame index: (H, W) uint8} from a mask of the first frame or a folder of masks named as frames.

    UserError or FileNotFoundError names a mask that is absent, unreadable, no index image, of another size than the
    first frame or of no frame, and says if no mask names an object.
    """
    if path.is_dir():
        files = {}
        for file in mask_files(path).values():
            index = clip.index(file.stem)
            if index is None:
                raise UserError(
                    f"{file}: the video has no frame {file.stem!r}. Name a mask as its frame."
                )
            files[index] = file
        if not files:
            raise UserError(
                f"{path}: no masks in this folder. Put at least one PNG there, named as its frame."
            )
    else:
        files = {0: path}
    masks = {index: decode_mask(file) for index, file in files.items()}
    size = next(iter(clip)).shape[:2]
    for index, given in masks.items():
        if given.shape != size:
            shapes = f"{given.shape[1]}x{given.shape[0]}, but the video is {size[1]}x{size[0]} (width x height)"
            raise UserError(
                f"{files[index]}: this mask is {shapes}. Save it at the size of the video."
            )
    check_annotations(masks, len(clip) if isinstance(clip, ImageClip) else None)
    return masks


def _check_outputs(out: Path, movie: Path | None, overlays: bool, inputs: tuple[Path, ...]) -> None:
    if out.is_file():
        raise UserError(
            f"--out {out}: this is a file. Name a folder; the masks go into its subfolder masks."
        )
    if movie is not None and movie.suffix.lower() != ".mp4":
        raise UserError(
            f"--movie {movie}: only MP4 movies are written. Give a name that ends in .mp4."
        )
    replaced = [
        out / "masks",
        *([out / "overlays"] if overlays else []),
        *([movie] if movie is not None else []),
    ]
    for given in inputs:
        for target in replaced:
            if given.resolve().is_relative_to(target.resolve()):
                raise UserError(
                    f"{given}: the results would take the place of this input. Choose another --out or --movie."
                )


class _Kept:
    """Frames handed on one by one and kept until their results are there."""

    def __init__(self, clip: ImageClip | MovieClip) -> None:
        self._clip = clip
        self._waiting: deque[np.ndarray] = deque()

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame in ahead(self._clip):
            self._waiting.append(frame)
            yield frame

    def oldest(self) -> np.ndarray:
        """Return the frame that the next result belongs to, and forget it."""
        return self._waiting.popleft()


class _KeptImages(_Kept):
    """The same where the number of frames is known, which memories make use of."""

    def __len__(self) -> int:
        return len(self._clip)


def _drawer(
    stack: ExitStack,
    out: Path,
    movie: Path | None,
    overlays: bool,
    size: tuple[int, int],
    clip: ImageClip | MovieClip,
) -> Callable[[str, np.ndarray, np.ndarray], None]:
    """Return what draws a mask on a frame into the wanted outputs, which are complete when `stack` ends."""
    folder = stack.enter_context(atomic_directory(out / "overlays")) if overlays else None
    append = (
        stack.enter_context(movie_writer(movie, size, clip.frame_rate))
        if movie is not None
        else None
    )

    def draw(name: str, frame: np.ndarray, mask: np.ndarray) -> None:
        if folder is None and append is None:
            return
        picture = overlay(frame, mask)
        if folder is not None:
            (folder / f"{name}.png").write_bytes(
                cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes()
            )
        if append is not None:
            append(picture)

    return draw
