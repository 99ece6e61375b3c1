"""The interface of a start: a function (network, settings, place) that fills in the weights."""

from dataclasses import dataclass
from pathlib import Path

from noisyvos.errors import UserError
from noisyvos.registry import Registry

STARTS = Registry("start", "noisyvos.starts.kinds")


@dataclass(frozen=True)
class Place:
    """Where a start finds its material, and the seed of what it draws."""

    raw: Path  # the folder of all sources, data/raw
    seed: int

    def file(self, source: str, name: str = "") -> Path:
        """Return a file of a source: the one called `name`, else its only weights file.

        FileNotFoundError or UserError where it is missing or not the only one.
        """
        folder = self.raw / source
        if name:
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"{folder / name}: these weights are missing. "
                    f"`noisyvos download --source {source}` says how to get them."
                )
            return folder / name
        found = sorted(
            path
            for end in ("*.pth", "*.pth.tar", "*.pt", "*.safetensors")
            for path in folder.glob(end)
        )
        if not found:
            raise FileNotFoundError(
                f"{folder}: no weights (.pth, .safetensors) are here. "
                f"`noisyvos download --source {source}` says how to get them."
            )
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise UserError(f"{folder}: several files with weights ({names}). Keep the one wanted.")
        return found[0]
