"""Commands around the grid: presets, checks of parameters, hand-over between both engines."""

from pathlib import Path
from typing import Annotated

import typer

from noisyvos.cli.app import Params, app
from noisyvos.limits import MOST_THREADS


@app.command()
def grid(
    preset: Annotated[str, typer.Option(help="A preset of params/presets.")] = "demo",
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Write nothing; fail if the grid is not what its preset gives."
        ),
    ] = False,
    params: Params = Path("params"),
) -> None:
    """Choose the preset that Snakemake and DVC use by default: write its grid, which both read."""
    from noisyvos.pipeline import cells as module

    if check:
        module.require_fresh(params)
    else:
        module.write(preset, params)


@app.command()
def code(
    out: Annotated[Path, typer.Option("--out", help="Where to write the hashes.")] = Path(
        "data/code.json"
    ),
    params: Params = Path("params"),
    modules: Annotated[
        str,
        typer.Option(
            help="Write nothing; print the modules of a stage or entry: stages.train, noise.drop."
        ),
    ] = "",
) -> None:
    """Write the hashes of the code that results depend on; `dvc repro` runs this first."""
    from noisyvos.pipeline import code_deps

    if modules:
        print("\n".join(code_deps.modules_of(modules, params)))
    else:
        code_deps.refresh(out, params)


@app.command()
def plan(
    name: Annotated[str, typer.Argument(help="A preset of params/presets.")] = "demo",
    params: Params = Path("params"),
    speeds: Annotated[
        Path, typer.Option(help="What `noisyvos measure` wrote on this machine.")
    ] = Path("speed.csv"),
) -> None:
    """Estimate what a preset would run, its disk and its hours; writes nothing."""
    from noisyvos.pipeline.estimate import describe

    print(describe(name, params, speeds=speeds))


@app.command()
def measure(
    preset: Annotated[str, typer.Option(help="A preset of params/presets.")] = "demo",
    params: Params = Path("params"),
    converted: Annotated[
        Path, typer.Option(help="Folder of the converted datasets, for the size of frames.")
    ] = Path("data/converted"),
    out: Annotated[
        Path, typer.Option("--out", help="The file of this machine's measurements.")
    ] = Path("speed.csv"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[
        int, typer.Option(min=1, max=MOST_THREADS, help="CPU threads of torch.")
    ] = 1,
    steps: Annotated[
        int, typer.Option(min=1, max=100_000, help="Steps to time of each combination.")
    ] = 10,
    again: Annotated[bool, typer.Option("--again", help="Also what is measured already.")] = False,
) -> None:
    """Time a few steps of everything a preset trains on this machine, for `plan`; needs no data."""
    from noisyvos.stages import measure as stage

    where = {"params": params, "converted": converted, "out": out}
    stage.run(preset, **where, device=device, threads=threads, steps=steps, again=again)


@app.command("check-params")
def check_params(params: Params = Path("params")) -> None:
    """Validate every parameter file and preset; all errors at once."""
    from noisyvos.params.validate import check

    check(params)
    print(f"{params}: all parameter files are valid")


@app.command()
def schema(
    out: Annotated[Path, typer.Option("--out", help="Folder of the schemas.")] = Path(
        "workflow/schemas"
    ),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a schema is not up to date.")
    ] = False,
    params: Params = Path("params"),
) -> None:
    """Write JSON schemas of the parameter files, with which editors complete and check them.

    Also writes workflow/weight-sizes.json, the sizes of all networks, for `noisyvos plan`.
    """
    from noisyvos.params import schemas
    from noisyvos.pipeline import weight_sizes

    if check:
        schemas.require_fresh(out)
    else:
        schemas.write(out)
        weight_sizes.write_sizes(params)


@app.command()
def record() -> None:
    """After `snakemake`: tell DVC which cells are up to date."""
    from noisyvos.pipeline import handover

    handover.record()


@app.command()
def adopt() -> None:
    """After `dvc pull` or `dvc repro`: tell Snakemake which cells are up to date."""
    from noisyvos.pipeline import handover

    handover.adopt()
