"""Stage `check-submission`: whether a benchmark's server takes a zip of masks."""

from pathlib import Path

from noisyvos.datasets.layout import VideoDataset
from noisyvos.metrics.submission import pack, problems, wanted_frames

_SHOWN = 20  # problems listed before "and N more"


def run(zip: Path, *, dataset: Path, rules: str, out: Path | None = None) -> bool:
    """Print what is wrong with a submission; if nothing is, pack it into `out` and return True.

    UserError or FileNotFoundError if the zip, the dataset or the rules cannot be used.
    """
    videos = VideoDataset(dataset)
    found = problems(zip, videos, rules)
    for sentence in found[:_SHOWN]:
        print(sentence)
    if len(found) > _SHOWN:
        print(f"and {len(found) - _SHOWN} more")
    if found:
        print(f"{zip}: not fit for submission by the rules of {rules} ({len(found)} problems)")
        return False
    frames = sum(len(wanted_frames(sequence)) for sequence in videos.sequences.values())
    print(
        f"{zip}: {len(videos.sequences)} sequences, {frames} masks, "
        f"fit for submission by the rules of {rules}"
    )
    if out is not None:
        pack(zip, videos, rules, out)
        print(f"packed in {out}")
    return True
