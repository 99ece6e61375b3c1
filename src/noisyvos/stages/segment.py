"""Command `segment`: a user's own video, from the mask of its first frame."""

from collections.abc import Callable, Sized
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from noisyvos.errors import UserError
from noisyvos.inference.prompts import check_annotations
from noisyvos.inference.results import Speed, encode_probabilities
from noisyvos.inference.runner import open_runner
from noisyvos.inference.settings import MemoryOptions
from noisyvos.io.atomic import (
    check_output,
    check_result_directory,
    output_directory,
    result_directory,
)
from noisyvos.io.files import mask_files
from noisyvos.io.mask_reader import read_mask_set
from noisyvos.io.masks import encode_mask
from noisyvos.media.overlays import overlay, write_overlay
from noisyvos.media.videos import FrameFolder, MovieFile, movie_writer, open_video


@dataclass(frozen=True)
class Outputs:
    """Where the results go: `out`/masks always, the others if asked for."""

    out: Path
    movie: Path | None = None  # an MP4 with the masks drawn on the frames
    overlays: bool = False  # the same pictures in `out`/overlays
    viz: Path | None = None  # the same pictures in this folder
    probabilities: Path | None = None  # <frame>.npz in this folder


def run(
    video: Path,
    mask: Path,
    outputs: Outputs,
    *,
    model: str,
    weights: str,
    one_object: bool = False,
    size: int | None = None,
    settings: str = "default",
    memory: MemoryOptions | None = None,
    params: Path = Path("params"),
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Write masks/<frame>.png for every frame of a movie or a folder of images.

    Only a few frames are in memory at a time. `mask` is the index mask of the first frame, or a
    folder of masks named as their frames, for objects that appear later; `one_object` joins their
    ids. `size` and `memory` go
    before those of the entry `settings` of eval.yaml. Everything is checked before the network is
    built; UserError or FileNotFoundError say what is wrong.
    """
    source = open_video(video)
    masks = read_masks(mask, source, one_object)
    _check_outputs(outputs, inputs=(video, mask))
    runner = open_runner(
        model, weights, settings, params, size=size, memory=memory, device=device, threads=threads
    )
    speed = Speed()
    count = 0
    with ExitStack() as stack:
        folder = stack.enter_context(_own(outputs, "masks"))
        draw = _drawer(stack, outputs, next(iter(masks.values())).shape, source.frame_rate)
        saved = _folder(stack, outputs.probabilities, "probabilities")
        total = len(source) if isinstance(source, Sized) else None
        results = runner.segment(source, masks, keep_probabilities=saved is not None)
        for result in tqdm(results, total=total, desc="segment", unit="frame", disable=None):
            name = source.name(count)
            (folder / f"{name}.png").write_bytes(encode_mask(result.mask))
            draw(name, result.frame, result.mask)
            if saved is not None:
                (saved / f"{name}.npz").write_bytes(encode_probabilities(result))
            speed.add(result)
            count += 1
    objects = sorted(
        {int(number) for given in masks.values() for number in np.unique(given)} - {0, 255}
    )
    print(
        f"{model}: {count} frames of {video.name}, objects {', '.join(map(str, objects))}, "
        f"masks in {outputs.out / 'masks'}"
    )
    print(f"{model}: {speed}")


def read_masks(
    path: Path, video: FrameFolder | MovieFile, one_object: bool = False
) -> dict[int, np.ndarray]:
    """Return {frame index: (H, W) uint8} from a mask of the first frame or a folder of masks.

    Masks of a folder are named as their frames; `one_object` is that of `read_mask_set`. UserError
    or FileNotFoundError names a mask that is absent, unreadable, not an index image, of another
    size than the first frame or without a frame, and says if no mask names an object.
    """
    if path.is_dir():
        files = {}
        for file in mask_files(path).values():
            index = video.index(file.stem)
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
    masks = read_mask_set(files, one_object)
    size = next(iter(video)).shape[:2]
    for index, given in masks.items():
        if given.shape != size:
            raise UserError(
                f"{files[index]}: this mask is {given.shape[1]}x{given.shape[0]}, but the video is "
                f"{size[1]}x{size[0]} (width x height). Save it at the size of the video."
            )
    check_annotations(masks, len(video) if isinstance(video, Sized) else None)
    return masks


def _check_outputs(outputs: Outputs, inputs: tuple[Path, ...]) -> None:
    out, movie = outputs.out, outputs.movie
    if out.is_file():
        raise UserError(
            f"--out {out}: this is a file. Name a folder; the masks go into its subfolder masks."
        )
    if movie is not None and movie.suffix.lower() != ".mp4":
        raise UserError(
            f"--movie {movie}: only MP4 movies are written. Give a name that ends in .mp4."
        )
    named = (movie, outputs.viz, outputs.probabilities)
    replaced = [out / "masks", *(path for path in named if path is not None)]
    if outputs.overlays:
        replaced.append(out / "overlays")
    for path, kind in ((outputs.viz, "overlays"), (outputs.probabilities, "probabilities")):
        if path is not None:
            check_result_directory(path, kind)
    for given in inputs:
        for target in replaced:
            if given.resolve().is_relative_to(target.resolve()):
                raise UserError(
                    f"{given}: the results would replace this input. "
                    "Choose another folder or file for them."
                )
    for name in ("masks", "overlays") if outputs.overlays else ("masks",):
        check_output(out / name, f"segment {name}", inputs=inputs, listed=True)


def _own(outputs: Outputs, name: str) -> AbstractContextManager[Path]:
    return output_directory(outputs.out / name, f"segment {name}", listed=True)


def _folder(stack: ExitStack, path: Path | None, kind: str) -> Path | None:
    return None if path is None else stack.enter_context(result_directory(path, kind))


def _drawer(
    stack: ExitStack, outputs: Outputs, size: tuple[int, ...], frame_rate: float
) -> Callable[[str, np.ndarray, np.ndarray], None]:
    """Return what draws a mask on a frame into the wanted outputs.

    The outputs are complete when `stack` ends.
    """
    height, width = size
    folders = [_folder(stack, outputs.viz, "overlays")]
    if outputs.overlays:
        folders.append(stack.enter_context(_own(outputs, "overlays")))
    append = None
    if outputs.movie is not None:
        append = stack.enter_context(movie_writer(outputs.movie, (height, width), frame_rate))

    def draw(name: str, frame: np.ndarray, mask: np.ndarray) -> None:
        for folder in folders:
            if folder is not None:
                write_overlay(folder, name, frame, mask)
        if append is not None:
            append(overlay(frame, mask))

    return draw
