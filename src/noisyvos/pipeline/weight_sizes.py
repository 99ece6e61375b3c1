"""How large the weights of each network are, without importing torch where that is known.

Counting needs torch, which takes seconds to import. `noisyvos schema` therefore keeps the sizes of
all networks of models.yaml in workflow/weight-sizes.json, which is in git. Each size carries a hash
of what it follows from. Of another network, `noisyvos plan` counts the weights once and keeps the
number in scratch/.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from noisyvos.io.atomic import write_if_other, write_text
from noisyvos.params.entries import read_family
from noisyvos.pipeline.code_deps import code
from noisyvos.pipeline.source_facts import NAME

SHIPPED = Path("workflow/weight-sizes.json")  # name -> {"bytes", "of": the hash}
COUNTED = Path("scratch/weight-sizes.json")  # hash -> bytes


def weight_sizes(
    models: Iterable[str], entries: Mapping[str, Mapping[str, Any]], root: Path
) -> dict[str, int]:
    """Return the bytes of each network's float32 weights; 0 for one that is only declared.

    entries: those of models.yaml. root: the repository, whose files of sizes are read.
    """
    kept, sizes = _read(root), {}
    before = len(kept)
    for model in dict.fromkeys(models):
        entry = entries.get(model, {})
        if not entry.get("kind"):
            sizes[model] = 0
            continue
        key = _hash(entry)
        if key not in kept:
            kept[key] = weight_bytes(entry, model)
        sizes[model] = kept[key]
    if len(kept) > before:
        with suppress(OSError):  # a cache only
            write_text(root / COUNTED, json.dumps(kept))
    return sizes


def write_sizes(params: Path) -> None:
    """Write workflow/weight-sizes.json for all networks of models.yaml."""
    rows = {
        name: {"bytes": weight_bytes(entry, name), "of": _hash(entry)}
        for name, entry in read_family(params, "models").items()
        if entry.get("kind")
    }
    text = json.dumps(rows, indent=1, sort_keys=True) + "\n"
    write_if_other(params.parent / SHIPPED, text)


def weight_bytes(entry: Mapping[str, Any], model: str) -> int:
    """Return the bytes of a network's float32 weights without making them."""
    import torch

    from noisyvos.models.base import MODELS

    settings = dict(entry)
    item = MODELS.get(settings.pop("kind"))
    with torch.device("meta"):
        network = item.build(item.validate(settings, f"models.yaml: {model}"))
    return 4 * sum(value.numel() for value in network.state_dict().values())


def _hash(entry: Mapping[str, Any]) -> str:
    """Return a hash of the settings of a network and of the code that builds it."""
    found = code()
    modules = found.entry("models", "", entry)
    built = found.hash(name for name in modules if name.startswith(f"{NAME}.models."))
    return sha256(json.dumps([built, entry], sort_keys=True).encode()).hexdigest()[:20]


def _read(root: Path) -> dict[str, int]:
    """Return the known sizes by hash. A file that is damaged counts as one that is absent."""
    kept: dict[str, int] = {}
    with suppress(OSError, ValueError, AttributeError):
        kept |= {str(key): int(size) for key, size in json.loads(_text(root / COUNTED)).items()}
    with suppress(OSError, ValueError, AttributeError, KeyError, TypeError):
        rows = json.loads(_text(root / SHIPPED)).values()
        kept |= {str(row["of"]): int(row["bytes"]) for row in rows}
    return kept


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
