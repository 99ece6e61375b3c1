"""The part of a grid that a method from outside adds, and where its outputs go.

They go to `runs/<preset>/compare/<method>` and `results/<preset>/compare/<method>`: the folders of
the preset, which DVC tracks, hold the cells of the preset alone.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_OWN = r"train|predictions|scores|submissions|tables|figures|report\.html"


def only_method(cells: dict[str, Any], method: str) -> dict[str, Any]:
    """Return the grid with the cells of one method alone, and all that it starts from."""
    train = {key: cell for key, cell in cells["train"].items() if cell["method"] == method}
    weights = {f"train/{key}" for key in train}
    found = dict(cells, train=train)
    for stage, section in cells.items():
        if stage.startswith("baseline"):
            found[stage] = {}
        elif stage.startswith("infer"):
            found[stage] = {
                key: cell for key, cell in section.items() if cell["weights"] in weights
            }
        elif stage.startswith("score"):
            found[stage] = {
                key: cell for key, cell in section.items() if cell.get("train_key") in train
            }
        elif stage == "submit":
            found[stage] = {key: cell for key, cell in section.items() if cell["run"] in train}
    return found


def own_folders(preset: str, method: str) -> tuple[Path, Path]:
    """Return the folders of results and of runs of a method from outside."""
    return Path("results", preset, "compare", method), Path("runs", preset, "compare", method)


def own_places(preset: str, method: str) -> Callable[[str], str]:
    """Return a function that moves the preset's paths in a text to the folders of the method."""
    pattern = re.compile(rf"\b(runs|results)/{preset}/({_OWN})(?=[/\s]|$)")
    return lambda text: pattern.sub(rf"\1/{preset}/compare/{method}/\2", text)
