"""Command `start-weights`: weights that a training starts from."""

from pathlib import Path

from noisyvos.errors import UserError, unknown_name
from noisyvos.params.entries import read_family


def run(
    model: str,
    *,
    out: Path,
    checkpoint: Path | None = None,
    resnet50: Path | None = None,
    resnet18: Path | None = None,
    seed: int = 0,
    params: Path = Path("params"),
) -> None:
    """Write what `pretrain --init` and `train --init` read for `model` (of models.yaml).

    Give either a published checkpoint or ImageNet trunks, which go into a fresh network of `seed`.
    A 4-plane checkpoint of XMem's still-image stage gets a random plane for the other objects if
    the network has one.
    """
    kinds = read_family(params, "models")
    if model not in kinds:
        raise unknown_name("model of models.yaml", model, kinds)
    if (checkpoint is None) == (resnet50 is None and resnet18 is None):
        raise UserError("Give either --checkpoint, or --resnet50 and --resnet18 (one or both).")
    from noisyvos import models
    from noisyvos.models.pretrained import load_checkpoint, load_trunks

    network = models.build(
        kinds[model]["kind"],
        seed=seed,
        **{key: value for key, value in kinds[model].items() if key != "kind"},
    )
    if checkpoint is None:
        load_trunks(network, resnet50=resnet50, resnet18=resnet18, seed=seed)
    else:
        load_checkpoint(network, checkpoint, "random", seed)
    models.save_weights(network, out)
    print(f"{model}: weights to start from in {out}")
