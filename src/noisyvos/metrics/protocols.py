"""Protocols: which videos, frames and objects are scored. J and F themselves never differ."""

from collections.abc import Iterable
from dataclasses import dataclass

from noisyvos.errors import UserError, unknown_name
from noisyvos.io.masks import MaskCollection


@dataclass(frozen=True)
class Protocol:
    """A benchmark's choice of frames and objects.

    With `late_objects`, every id of the truth is an object, scored from the frame after its first
    mask on. Without, objects are 1..K for the largest id K of the first true mask, including ids
    without a pixel; ids that appear later in the truth are background.
    """

    name: str
    drop_first: bool
    drop_last: bool
    late_objects: bool = False

    def scored(self, frames: tuple[str, ...], sequence: str) -> tuple[str, ...]:
        """Return the frames to score among the sorted frames with a true mask.

        UserError if none is left.
        """
        kept = frames[int(self.drop_first) : len(frames) - int(self.drop_last)]
        if not kept:
            raise UserError(
                f"Sequence {sequence!r} has {len(frames)} true masks ({', '.join(frames)}), and "
                f"protocol {self.name!r} scores none of them. Use another protocol, or leave this "
                "sequence out."
            )
        return kept


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("davis", drop_first=True, drop_last=True),
        Protocol("visor", drop_first=True, drop_last=False),
        Protocol("youtube_vos", drop_first=True, drop_last=False, late_objects=True),
        Protocol("long_videos", drop_first=True, drop_last=False),
        Protocol("all_frames", drop_first=False, drop_last=False),
    )
}


def get_protocol(name: str) -> Protocol:
    """Return the protocol of a name; UserError lists the known names."""
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


@dataclass(frozen=True)
class Rules:
    """Leniency; all are off by default.

    ignore_extra_ids: predicted ids that are not objects count as background; else an error.
    skip_missing: a sequence without any prediction is left out of the score; else an error.
    binary: any non-zero value of truth and prediction is object 1 (DAVIS 2016 masks hold 0 and
    255); in JPEG data and soft edges, levels from 128 on are.
    rgb: RGB masks in the colours of the DAVIS palette, or grey ones, are read as ids.
    """

    ignore_extra_ids: bool = False
    skip_missing: bool = False
    binary: bool = False
    rgb: bool = False


@dataclass(frozen=True)
class ScoredVideo:
    """One sequence to score: its folder in either collection, all true frames and the scored."""

    name: str
    truth_folder: str
    results_folder: str
    frames: tuple[str, ...]
    scored: tuple[str, ...]


def videos_to_score(
    results: MaskCollection,
    truth: MaskCollection,
    protocol: Protocol,
    rules: Rules,
    wanted: Iterable[str] | None,
) -> tuple[list[ScoredVideo], list[str]]:
    """Return the videos to score, in order, and the names of those skipped; decodes nothing.

    Folders above the sequences (`480p/<sequence>`) are allowed on both sides. FileNotFoundError
    names the first missing sequence or frame. UserError if there is nothing to score.
    """
    folders = _without_common_parent(truth.sequences())
    names = (
        [name for name in (line.strip() for line in wanted) if name]
        if wanted is not None
        else list(folders)
    )
    if not names:
        raise UserError(
            f"{truth.path}: there is nothing to score here; expected <sequence>/<frame>.png."
        )
    videos, skipped = [], []
    for name in dict.fromkeys(names):
        if name not in folders:
            raise FileNotFoundError(
                f"{truth.path}: sequence {name!r} was requested but has no true masks here."
            )
        frames = truth.frames(folders[name])
        scored = protocol.scored(frames, name)
        folder = _find(results, name)
        if folder is None and rules.skip_missing:
            skipped.append(name)
            continue
        present = set(results.frames(folder)) if folder is not None else set()
        absent = [frame for frame in scored if frame not in present]
        if folder is None:
            raise FileNotFoundError(
                f"{results.path}: sequence {name!r} is missing; its frames {absent[0]} to "
                f"{absent[-1]} are to be scored."
            )
        if absent:
            raise FileNotFoundError(
                f"{results.path}: {name}/{absent[0]}.png is missing "
                f"({len(absent)} of {len(scored)} scored frames are)."
            )
        videos.append(ScoredVideo(name, folders[name], folder, frames, scored))
    if not videos:
        raise UserError(
            f"{results.path}: no sequence of the {len(names)} to score has predictions here."
        )
    return videos, skipped


def _without_common_parent(folders: Iterable[str]) -> dict[str, str]:
    """Return folders by sequence name, without a parent folder that all of them share."""
    folders = list(folders)
    parents = {folder.rpartition("/")[0] for folder in folders}
    shared = len(parents) == 1
    return {folder.rpartition("/")[2] if shared else folder: folder for folder in folders}


def _find(results: MaskCollection, name: str) -> str | None:
    """Return the folder of a sequence: at the top, else the only one of that name below it."""
    folders = results.sequences()
    if name in folders:
        return name
    nested = [folder for folder in folders if folder.endswith(f"/{name}")]
    if len(nested) > 1:
        raise UserError(
            f"{results.path}: sequence {name!r} is in several folders: {', '.join(nested)}. "
            "Give one of their parents."
        )
    return nested[0] if nested else None
