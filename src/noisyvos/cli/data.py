"""Commands up to the noisy labels: raw data, conversion, checks, clips, noise."""

from pathlib import Path
from typing import Annotated

import typer

from noisyvos.cli.app import Out, Params, Seed, Workers, app, convert_app
from noisyvos.errors import UserError


@app.command()
def generate(
    source: Annotated[str, typer.Option(help="A generated source of sources.yaml.")],
    out: Out,
    inventory: Annotated[Path, typer.Option(help="Where to list the files made.")],
    params: Params = Path("params"),
    workers: Workers = 1,
) -> None:
    """Make generated raw data from its seed."""
    from noisyvos.stages import generate as stage

    stage.run(source, out=out, inventory=inventory, params=params, workers=workers)


@app.command()
def download(
    source: Annotated[str, typer.Option(help="A source of sources.yaml.")],
    raw: Annotated[Path, typer.Option(help="Folder the raw files are in.")],
    out: Annotated[Path, typer.Option(help="Where to list what is there.")],
    archives: Annotated[
        Path | None,
        typer.Option(help="Where archives are kept; by default archives/SOURCE beside raw/."),
    ] = None,
    params: Params = Path("params"),
    workers: Annotated[int, typer.Option(min=1, max=16, help="Files fetched at a time.")] = 4,
    accept_licence: Annotated[
        bool,
        typer.Option(
            "--accept-licence",
            envvar="NOISYVOS_ACCEPT_LICENCE",
            help="Accept the licence of the source and fetch it.",
        ),
    ] = False,
) -> None:
    """Fetch raw data, or check what was put there by hand and say what is missing."""
    from noisyvos.stages import download as stage

    stage.run(
        source,
        raw=raw,
        out=out,
        params=params,
        archives=archives,
        workers=workers,
        accept_licence=accept_licence,
    )


@app.command()
def point(
    source: Annotated[str, typer.Option(help="A by-hand source of sources.yaml.")],
    to: Annotated[Path, typer.Option("--to", help="The folder that holds the material.")],
    raw: Annotated[Path, typer.Option(help="Folder of all raw data.")] = Path("data/raw"),
    params: Params = Path("params"),
) -> None:
    """Use a folder that is already on this machine as a source, by a link at data/raw/<source>."""
    from noisyvos.stages import point as stage

    stage.run(source, to=to, raw=raw, params=params)


@convert_app.command("dataset")
def convert_dataset(
    name: Annotated[str, typer.Option(help="A dataset of datasets.yaml.")],
    raw: Annotated[Path, typer.Option(help="Folder the raw files are in.")],
    out: Out,
    params: Params = Path("params"),
    workers: Workers = 1,
) -> None:
    """Convert a dataset of datasets.yaml."""
    from noisyvos.stages import convert as stage

    stage.run(name, raw=raw, out=out, params=params, workers=workers)


@convert_app.command("visor")
def convert_visor(
    annotations: Annotated[Path, typer.Option(help="Folder with train/*.json and val/*.json.")],
    images: Annotated[Path, typer.Option(help="Folder with <video>/<image>.jpg.")],
    subset: Annotated[str, typer.Option("--set", help="train or val.")],
    out: Annotated[Path, typer.Option(help="Where to write VISOR_2022; both sets may share it.")],
    keep_all: Annotated[
        bool | None,
        typer.Option(
            "--keep-all/--keep-first-frame-only",
            help="Objects to keep. Default: train all, val first frame.",
        ),
    ] = None,
    size: Annotated[str, typer.Option(help="Width x height of what is written.")] = "854x480",
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Leave out what only quirks of the published converter keep."
        ),
    ] = False,
    workers: Workers = 1,
) -> None:
    """Convert one set of VISOR to DAVIS-style folders."""
    from noisyvos.stages import visor as stage

    stage.run(
        annotations=annotations,
        images=images,
        subset=subset,
        keep_all=keep_all,
        size=size,
        out=out,
        strict=strict,
        workers=workers,
    )


@convert_app.command("scribbles")
def convert_scribbles(
    dataset: Annotated[
        Path, typer.Option(help="The converted video dataset that the scribbles are of.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The mask collection (zip) to write.")],
    manifest: Annotated[Path, typer.Option(help="Where to write what the scribbles cover.")],
    scribbles: Annotated[
        Path | None, typer.Option(help="Folder with <video>/<frame>.bmp or <video>.bmp.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Or a setting of noise.yaml of kind `drawn`, which names the folder."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="With --name: which of several drawn sets.")] = 0,
    raw: Annotated[Path, typer.Option(help="With --name: folder of all sources.")] = Path(
        "data/raw"
    ),
    params: Params = Path("params"),
    highest: Annotated[
        bool,
        typer.Option(
            "--highest",
            help="The background is the largest number in each file, "
            "not the one after the last object.",
        ),
    ] = False,
) -> None:
    """Read drawn scribbles as labels (`train --masks`) and prompts (`infer --prompts`)."""
    from noisyvos.stages import scribbles as stage

    if scribbles is not None and name is not None:
        raise UserError("--scribbles and --name both say where the scribbles are. Give one.")
    drawn = None if name is None else stage.Drawn(name, seed, raw, params)
    stage.run(
        dataset, out=out, manifest=manifest, scribbles=scribbles, drawn=drawn, highest=highest
    )


@convert_app.command("unify")
def convert_unify(
    name: Annotated[str, typer.Option(help="MSRA10K, ECSSD, PASCAL-S, PASCALVOC2012 or COCO.")],
    source: Annotated[Path, typer.Option("--src", help="Folder of the unpacked set.")],
    destination: Annotated[
        Path, typer.Option("--dst", help="Where to write JPEGImages/NAME and Annotations/NAME.")
    ],
    workers: Workers = 1,
) -> None:
    """Bring a set of still images with masks into one layout."""
    from noisyvos.stages import unify as stage

    stage.run(name, source=source, destination=destination, workers=workers)


@app.command("check")
def check_dataset(
    dataset: Annotated[Path, typer.Option(help="A converted dataset, or raw material.")],
    expect: Annotated[Path, typer.Option(help="A sources.yaml with published counts.")] = Path(
        "params/sources.yaml"
    ),
    one_object: Annotated[
        bool,
        typer.Option(
            "--one-object", help="Read raw masks of 0 and 255 or grey levels as one object."
        ),
    ] = False,
    raw_of: Annotated[
        str | None,
        typer.Option(
            "--as", help="Read --dataset as the raw material of this dataset of datasets.yaml."
        ),
    ] = None,
    params: Params = Path("params"),
    workers: Workers = 1,
) -> None:
    """Read a whole dataset once and say what is in it; exit code 1 if it is not usable."""
    from noisyvos.stages import check as stage

    usable = stage.run(
        dataset,
        expect=expect,
        one_object=one_object,
        raw_of=raw_of,
        params=params,
        workers=workers,
    )
    if not usable:
        raise typer.Exit(1)


@app.command()
def describe(
    dataset: Annotated[Path, typer.Option(help="A converted dataset, or clips made by `synth`.")],
    out: Annotated[Path, typer.Option("--out", help="The picture (PNG) to write.")],
    sequences: Annotated[int, typer.Option(min=1, max=100, help="Videos to show.")] = 6,
) -> None:
    """Draw a contact sheet of a dataset: frames under their masks."""
    from noisyvos.stages import describe as stage

    stage.run(dataset, out=out, sequences=sequences)


@app.command()
def synth(
    images: Annotated[Path, typer.Option(help="A converted image dataset.")],
    recipe: Annotated[str, typer.Option(help="A recipe of synth.yaml.")],
    out: Out,
    seed: Seed = 0,
    params: Params = Path("params"),
    workers: Workers = 1,
) -> None:
    """Make 3-frame clips from still images."""
    from noisyvos.stages import synth as stage

    stage.run(images, recipe=recipe, out=out, seed=seed, params=params, workers=workers)


@app.command()
def noise(
    dataset: Annotated[Path, typer.Option(help="A converted video dataset.")],
    noise: Annotated[str, typer.Option("--noise", help="A noise setting of noise.yaml.")],
    out: Annotated[Path, typer.Option("--out", help="The mask collection (zip) to write.")],
    manifest: Annotated[Path, typer.Option(help="Where to write the achieved noise.")],
    seed: Seed = 0,
    params: Params = Path("params"),
    workers: Workers = 1,
) -> None:
    """Put label noise on the masks of a dataset."""
    from noisyvos.stages import noise as stage

    stage.run(
        dataset, noise=noise, out=out, manifest=manifest, seed=seed, params=params, workers=workers
    )


@app.command("noise-preview")
def noise_preview(
    dataset: Annotated[Path, typer.Option(help="A converted video dataset.")],
    out: Annotated[Path, typer.Option("--out", help="The picture (PNG) to write.")],
    noise: Annotated[
        list[str] | None,
        typer.Option("--noise", help="A noise setting; repeat for several. Default: all."),
    ] = None,
    frame: Annotated[
        str | None, typer.Option(help="<sequence>/<frame>. Default: the frame with most objects.")
    ] = None,
    seed: Seed = 0,
    params: Params = Path("params"),
) -> None:
    """Show what label noise does to one frame."""
    from noisyvos.stages import noise_preview as stage

    stage.run(dataset, out=out, noises=noise or (), frame=frame, seed=seed, params=params)
