"""Stage `start`: the weights that the first training of a chain begins with."""

from pathlib import Path

from noisyvos.params.entries import read_entry
from noisyvos.starts.base import STARTS, Place


def run(
    name: str, *, model: str, seed: int, raw: Path, out: Path, params: Path = Path("params")
) -> None:
    """Write the start `name` (of starts.yaml) of `model` (of models.yaml) to `out`.

    raw: the folder of all sources. UserError or FileNotFoundError if the material is missing or
    does not fit the network; nothing is written then.
    """
    start, settings = read_entry(params, "starts", name, STARTS)
    from noisyvos import models
    from noisyvos.models.base import MODELS

    kind, values = read_entry(params, "models", model, MODELS)
    network = models.build(kind.name, seed=seed, **values.model_dump(exclude_unset=True))
    start.build(network, settings, Place(raw, seed))
    models.save_weights(network, out)
    print(f"{model}: start {name} of seed {seed} in {out}")
