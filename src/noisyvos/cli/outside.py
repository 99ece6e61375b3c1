"""Commands for submissions to benchmarks and for published weights."""

from pathlib import Path
from typing import Annotated

import typer

from noisyvos.cli.app import Params, Seed, app

Model = Annotated[str, typer.Option(help="A network of models.yaml.")]


@app.command("check-submission")
def check_submission(
    collection: Annotated[
        Path, typer.Option("--zip", help="The zip of masks, as `infer` writes it.")
    ],
    dataset: Annotated[Path, typer.Option(help="The converted dataset it belongs to.")],
    rules: Annotated[str, typer.Option(help="davis or youtube_vos.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where to pack it as the server takes it, if nothing is wrong."),
    ] = None,
) -> None:
    """Say whether a zip of masks is what a benchmark's server takes; exit code 1 if not."""
    from noisyvos.stages import check_submission as stage

    if not stage.run(collection, dataset=dataset, rules=rules, out=out):
        raise typer.Exit(1)


@app.command("start-weights")
def start_weights(
    model: Model,
    out: Annotated[
        Path,
        typer.Option("--out", help="The weights (safetensors) to write, for --init of a training."),
    ],
    checkpoint: Annotated[
        Path | None, typer.Option(help="A published checkpoint of this network.")
    ] = None,
    resnet50: Annotated[
        Path | None, typer.Option(help="torchvision's ImageNet weights of ResNet-50.")
    ] = None,
    resnet18: Annotated[
        Path | None, typer.Option(help="torchvision's ImageNet weights of ResNet-18.")
    ] = None,
    seed: Seed = 0,
    params: Params = Path("params"),
) -> None:
    """Make weights to start a training from, out of ImageNet trunks or a published checkpoint."""
    from noisyvos.stages import start_weights as stage

    stage.run(
        model,
        out=out,
        checkpoint=checkpoint,
        resnet50=resnet50,
        resnet18=resnet18,
        seed=seed,
        params=params,
    )
