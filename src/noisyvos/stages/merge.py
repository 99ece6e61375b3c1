"""Command `merge`: one result from the saved probabilities of several runs."""

from collections.abc import Sequence
from pathlib import Path

from noisyvos.inference.results import merge_probabilities
from noisyvos.io.masks import write_mask_zip


def run(folders: Sequence[Path], *, out: Path) -> None:
    """Write the masks of the summed probabilities of all `folders` to the zip `out`.

    The folders come from `infer --save-probabilities` over the same videos, for example at several
    sizes. UserError or FileNotFoundError names what does not fit.
    """
    write_mask_zip(out, merge_probabilities(folders))
    print(f"merged {len(folders)} runs in {out}")
