"""Reading a whole dataset once: what is in it, and what is wrong with it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from noisyvos.datasets.coco_format import decode_rle
from noisyvos.datasets.layout import VideoDataset, read_meta
from noisyvos.datasets.splits import resolution_folders
from noisyvos.errors import UserError
from noisyvos.io.files import folders_in, image_files, mask_files, normal, same_place
from noisyvos.io.forms import damaged, read_instances_file
from noisyvos.io.images import checked_size
from noisyvos.io.mask_reader import StoredMask, decode_stored, mask_set, open_mask
from noisyvos.io.masks import VOID
from noisyvos.io.text import read_json
from noisyvos.parallel import ordered_map

# what makes a dataset unusable, and what is only worth knowing
PROBLEMS = {
    "unreadable image": True,
    "missing image": True,
    "unreadable mask": True,
    "missing mask": True,
    "mask of colours (RGB), not of indices": True,
    "size mismatch": True,
    "sequence without a mask": True,
    "id that meta.json does not list": True,
    "id without pixels": True,
    "wanted frame that is not there": True,
    "mask without a frame": True,
    "instance without a shape": True,
    "no object to draw (synth refuses this dataset)": True,
    "refused by convert": True,
    "gap in the ids (score counts the ids between as objects)": False,
    "fewer than 3 masks (score with protocol davis refuses such a sequence)": False,
    "first mask without an object (score refuses it, but for protocol youtube_vos)": False,
    "object after the first mask (score leaves it out, but for protocol youtube_vos)": False,
    "listed object that no mask shows": False,
    "box that does not fit its shape": False,
    "box outside its image": False,
    "grey or RGB, not palette, PNG": False,
    "image without an instance": False,
}
LEAST_SCORED = 3  # masks of a sequence: protocol davis leaves out the first and the last


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong (a key of PROBLEMS) and where."""

    what: str
    where: str


@dataclass
class Findings:
    """Counts by name and problems of a whole dataset.

    `source` and `split` tell which published counts apply.
    """

    name: str
    counts: dict[str, int]
    problems: list[Problem] = field(default_factory=list)
    source: str | None = None
    split: str | None = None
    reduced: bool = False  # small objects may be lost
    # images of each folder of a collection of still images
    folders: dict[str, int] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether nothing fatal was found."""
        return not any(PROBLEMS[problem.what] for problem in self.problems)


@dataclass(frozen=True)
class _Video:
    """A video to read: its files; size and ids are those of meta.json, None without one."""

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    size: tuple[int, int] | None
    objects: tuple[int, ...] | None
    required: tuple[str, ...] = ()
    one_object: bool = False  # of a raw folder
    late: bool = False  # the benchmark gives objects one by one, so its protocol scores late ones
    listed: tuple[int, ...] = ()  # objects that the published meta.json names


@dataclass(frozen=True)
class _Facts:
    frames: int
    masks: int
    objects: int
    void_masks: int
    problems: tuple[Problem, ...]


def check_dataset(root: Path, workers: int = 1, one_object: bool = False) -> Findings:
    """Read every image and mask of a converted dataset or a DAVIS-style folder once.

    Masks of a raw folder are read as `convert` does, `one_object` included; UserError for others.
    """
    meta = root / "meta.json"
    content = read_json(meta) if meta.is_file() else None
    kind = content.get("kind") if isinstance(content, dict) else None
    if kind == "video":
        return _check_converted(root, workers)
    if kind == "images":
        return _check_images(root, workers)
    if (root / "JPEGImages").is_dir():  # perhaps with the meta.json of YouTube-VOS
        return _check_folder(root, workers, one_object)
    if kind is not None:
        raise UserError(
            f"{root}: a dataset of kind {kind!r} cannot be checked; `video` and `images` can."
        )
    raise UserError(
        f"{root}: neither a converted dataset (no meta.json) "
        "nor a DAVIS-style folder (no JPEGImages/). "
        "For other raw material name its dataset in datasets.yaml: `check --as NAME`."
    )


def _check_converted(root: Path, workers: int) -> Findings:
    data = VideoDataset(root)
    videos = []
    for sequence in data.sequences.values():
        listed = tuple(data.meta.get("listed_objects", {}).get(sequence.name, ()))
        frames = tuple(data.frame_path(sequence.name, frame) for frame in sequence.frames)
        masks = tuple(root / "masks" / sequence.name / f"{frame}.png" for frame in sequence.masks)
        videos.append(
            _Video(
                sequence.name,
                frames,
                masks,
                sequence.size,
                sequence.objects,
                sequence.required or (),
                late=sequence.appears is not None,
                listed=listed,
            )
        )
    settings = data.meta.get("settings", {})
    findings = _read_videos(data.meta["name"], videos, workers)
    categories = {
        category
        for objects in data.meta.get("categories", {}).values()
        for category in objects.values()
    }
    if categories:
        findings.counts["categories"] = len(categories)
    if not settings.keys() & {"sequences", "exclude", "holdout"}:
        # a part of a split has no published counts
        findings.source, findings.split = (
            settings.get("source"),
            data.meta.get("split", settings.get("split")),
        )
        findings.reduced = "size" in settings
    return findings


def _check_folder(root: Path, workers: int, one_object: bool) -> Findings:
    frames, masks = resolution_folders(root)
    videos = []
    refused = []
    for folder in folders_in(frames):
        try:
            own = tuple(mask_files(same_place(masks, folder.name)).values())
            pictures = tuple(image_files(folder).values())
        except UserError as error:
            refused.append(Problem("refused by convert", str(error)))
            continue
        if not pictures:
            refused.append(Problem("refused by convert", f"{folder}: this sequence has no frames."))
        videos.append(_Video(folder.name, pictures, own, None, None, one_object=one_object))
    if not videos and refused:
        raise UserError(refused[0].where)
    findings = _read_videos(root.name, videos, workers)
    findings.problems += refused
    return findings


def _read_videos(name: str, videos: list[_Video], workers: int) -> Findings:
    if not videos:
        raise UserError(f"{name}: there is no sequence to check.")
    facts = list(ordered_map(_read_video, videos, workers, f"check {name}"))
    counts = {
        "sequences": len(videos),
        "frames": sum(fact.frames for fact in facts),
        "annotated_frames": sum(fact.masks for fact in facts),
        "objects": sum(fact.objects for fact in facts),
        "masks with void": sum(fact.void_masks for fact in facts),
    }
    if any(video.required for video in videos):
        counts["wanted frames"] = sum(len(video.required) for video in videos)
    return Findings(name, counts, [problem for fact in facts for problem in fact.problems])


def _read_video(video: _Video) -> _Facts:
    problems: list[Problem] = []
    size = video.size
    for path in video.frames:
        found = _image_size(path, problems)
        size = size or found
        if found and size and found != size:
            problems.append(
                Problem("size mismatch", f"{path} is {_text(found)}, its sequence {_text(size)}")
            )
    if not video.masks:
        problems.append(Problem("sequence without a mask", video.name))
    stems = {normal(path.stem) for path in video.frames}
    problems += [
        Problem("wanted frame that is not there", f"{video.name}/{frame}")
        for frame in video.required
        if frame not in stems
    ]
    values: set[int] = set()
    void = 0
    problems += [
        Problem("mask without a frame", str(path))
        for path in video.masks
        if normal(path.stem) not in stems
    ]
    masks = _read_masks(video, problems)
    if not video.late:
        problems += _for_score(video, masks)
    for path, mask in masks.items():
        if size and mask.shape != size:
            problems.append(
                Problem("size mismatch", f"{path} is {_text(mask.shape)}, its frames {_text(size)}")
            )
        present = set(np.unique(mask).tolist())
        void += VOID in present
        unknown = (
            sorted(present - {0, VOID} - set(video.objects)) if video.objects is not None else []
        )
        problems += [
            Problem("id that meta.json does not list", f"{path}: {number}") for number in unknown
        ]
        values |= present
    values -= {0, VOID}
    if values and max(values) != len(values):
        problems.append(
            Problem(
                "gap in the ids (score counts the ids between as objects)",
                f"{video.name}: {', '.join(map(str, sorted(values)))}",
            )
        )
    problems += [
        Problem("id without pixels", f"{video.name}: {number}")
        for number in video.objects or ()
        if number not in values
    ]
    problems += [
        Problem("listed object that no mask shows", f"{video.name}: {number}")
        for number in video.listed
        if number not in values.union(video.objects or ())
    ]
    return _Facts(len(video.frames), len(video.masks), len(values), void, tuple(problems))


def _image_size(path: Path, problems: list[Problem]) -> tuple[int, int] | None:
    try:
        return checked_size(path)
    except FileNotFoundError:
        problems.append(Problem("missing image", str(path)))
    except UserError as error:
        problems.append(Problem("unreadable image", str(error)))
    return None


def _read_masks(video: _Video, problems: list[Problem]) -> dict[Path, np.ndarray]:
    """Return the masks that can be read: raw ones as `convert` does, others as later stages do."""
    stored: dict[Path, StoredMask] = {}
    for path in video.masks:
        try:
            stored[path] = open_mask(path)
            if stored[path].mode != "P":
                problems.append(Problem("grey or RGB, not palette, PNG", str(path)))
        except FileNotFoundError:
            problems.append(Problem("missing mask", str(path)))
        except UserError as error:
            problems.append(Problem("unreadable mask", str(error)))
    if video.objects is None and stored and len(stored) == len(video.masks):
        try:
            return mask_set(stored, {path: path for path in stored}, video.one_object)
        except UserError as error:
            problems.append(Problem("refused by convert", str(error)))
            return {}
    masks: dict[Path, np.ndarray] = {}
    for path, kept in stored.items():
        try:
            masks[path] = decode_stored(kept, str(path))
        except UserError as error:
            coloured = kept.mode.startswith(("RGB", "CMYK", "YCbCr"))
            what = "mask of colours (RGB), not of indices" if coloured else "unreadable mask"
            problems.append(Problem(what, str(error)))
    return masks


def _for_score(video: _Video, masks: dict[Path, np.ndarray]) -> list[Problem]:
    """Return what `score` would refuse or leave out if these masks were the truth."""
    if not masks or len(masks) < len(video.masks):
        return []
    ids = [set(np.unique(mask).tolist()) - {0, VOID} for mask in masks.values()]
    found = []
    if len(ids) < LEAST_SCORED:
        what = "fewer than 3 masks (score with protocol davis refuses such a sequence)"
        found.append(Problem(what, video.name))
    if not ids[0]:
        what = "first mask without an object (score refuses it, but for protocol youtube_vos)"
        found.append(Problem(what, str(next(iter(masks)))))
    elif late := sorted(set().union(*ids) - set(range(1, max(ids[0]) + 1))):
        what = "object after the first mask (score leaves it out, but for protocol youtube_vos)"
        found.append(Problem(what, f"{video.name}: {', '.join(map(str, late))}"))
    return found


def _text(size: Iterable[int]) -> str:
    return "x".join(str(side) for side in reversed(tuple(size)))


def _check_images(root: Path, workers: int) -> Findings:
    meta = read_meta(root, kind="images")
    content = read_instances_file(root)
    by_image: dict[int, list[dict]] = {image["id"]: [] for image in content["images"]}
    for entry in content["annotations"]:
        by_image[entry["image_id"]].append(entry)
    tasks = [
        (
            root / "images" / image["file_name"],
            (image["height"], image["width"]),
            by_image[image["id"]],
        )
        for image in content["images"]
    ]
    problems: list[Problem] = []
    with damaged(root / "instances.json", "Convert the dataset again."):
        for found in ordered_map(_read_image, tasks, workers, f"check {meta['name']}"):
            problems += found
    crowd = sum(entry.get("iscrowd", 0) for entry in content["annotations"])
    if crowd == len(content["annotations"]):
        problems.append(Problem("no object to draw (synth refuses this dataset)", str(root)))
    counts = {
        "images": len(tasks),
        "instances": len(content["annotations"]),
        "crowd regions": crowd,
    }
    settings = meta.get("settings", {})
    findings = Findings(
        meta["name"], counts, problems, settings.get("source"), folders=meta.get("folders", {})
    )
    if not findings.folders:
        counts["categories"] = len(content["categories"])
        annotations = Path(settings.get("annotations", "annotations/instances_train2017.json")).stem
        findings.split = annotations.removeprefix("instances_").removesuffix("2017")
    return findings


def _read_image(task: tuple[Path, tuple[int, int], list[dict]]) -> list[Problem]:
    path, size, entries = task
    problems: list[Problem] = []
    found = _image_size(path, problems)
    if found and found != size:
        problems.append(
            Problem("size mismatch", f"{path} is {_text(found)}, instances.json says {_text(size)}")
        )
    if not entries:
        problems.append(Problem("image without an instance", str(path)))
    for entry in entries:
        shape = entry["segmentation"]
        where = f"{path}: instance {entry['id']}"
        if isinstance(shape, dict):
            if tuple(shape["size"]) != size:
                problems.append(Problem("size mismatch", where))
            elif not decode_rle(shape).any():
                problems.append(Problem("instance without a shape", where))
        elif not any(shape):
            problems.append(Problem("instance without a shape", where))
        x, y, width, height = entry["bbox"]
        if x < -1 or y < -1 or x + width > size[1] + 1 or y + height > size[0] + 1:
            problems.append(Problem("box outside its image", where))
        elif isinstance(shape, list) and any(shape) and not _fits(entry["bbox"], shape):
            problems.append(Problem("box that does not fit its shape", where))
    return problems


def _fits(box: list[float], shape: list[list[float]]) -> bool:
    """Whether a box [x, y, width, height] is about that of its polygons."""
    points = np.concatenate([np.reshape(part, (-1, 2)) for part in shape])
    low, high = points.min(axis=0), points.max(axis=0)
    given = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])
    slack = 3 + 0.1 * float((high - low).max())
    return bool((np.abs(given - np.concatenate([low, high])) <= slack).all())
