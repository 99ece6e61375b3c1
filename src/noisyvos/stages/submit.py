"""Stage `submit`: pack the predictions of a set without public truth for its server."""

from pathlib import Path

from noisyvos.datasets.layout import VideoDataset
from noisyvos.errors import UserError
from noisyvos.metrics.submission import pack, problems

_SHOWN = 5  # problems named in the message


def run(predictions: Path, *, dataset: Path, rules: str, out: Path) -> None:
    """Write the masks that the server wants to `out`.

    UserError if the predictions lack a wanted mask or a mask is not what the server accepts.
    """
    videos = VideoDataset(dataset)
    pack(predictions, videos, rules, out)
    found = problems(out, videos, rules)
    if found:
        out.unlink()
        more = f" And {len(found) - _SHOWN} more." if len(found) > _SHOWN else ""
        raise UserError(
            f"{predictions}: not fit for submission by the rules of {rules}: "
            f"{'; '.join(found[:_SHOWN])}.{more}"
        )
    print(f"{len(videos.sequences)} sequences packed in {out}")
