"""The command line: one subcommand a stage, in pipeline order. Options only; the work is in `noisyvos.stages`.

Nothing heavy is imported here, so that `noisyvos --help` and the light stages start at once.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from noisyvos import cli_outside
from noisyvos.errors import UserError

app = typer.Typer(
    name="noisyvos",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Experiments on video object segmentation with noisy labels.",
)
convert_app = typer.Typer(no_args_is_help=True, help="Bring raw data into the one layout that all stages read.")

Out = Annotated[Path, typer.Option("--out", help="Where to write; replaced only when complete.")]
Params = Annotated[Path, typer.Option("--params", help="Folder of the parameter files.")]
Workers = Annotated[int, typer.Option("--workers", min=1, envvar="NOISYVOS_WORKERS", help="Processes; never changes a byte of the output.")]
Seed = Annotated[int, typer.Option("--seed", min=0)]


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
    archives: Annotated[Path | None, typer.Option(help="Where archives are kept; by default archives/SOURCE beside raw/.")] = None,
    params: Params = Path("params"),
    workers: Annotated[int, typer.Option(min=1, max=16, help="Files fetched at a time.")] = 4,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", envvar="NOISYVOS_ACCEPT_LICENCE", help="Accept the licence of the source and fetch it.")
    ] = False,
) -> None:
    """Fetch raw data, or check what was put there by hand and say what is missing."""
    from noisyvos.stages import download as stage

    stage.run(source, raw=raw, out=out, params=params, archives=archives, workers=workers, accept_licence=accept_licence)


app.add_typer(convert_app, name="convert")


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
        bool | None, typer.Option("--keep-all/--keep-first-frame-only", help="Objects to keep. Default: train all, val first frame.")
    ] = None,
    size: Annotated[str, typer.Option(help="Width x height of what is written.")] = "854x480",
    strict: Annotated[bool, typer.Option("--strict", help="Leave out what only quirks of the published converter keep.")] = False,
    workers: Workers = 1,
) -> None:
    """Convert one set of VISOR to DAVIS-style folders."""
    from noisyvos.stages import visor as stage

    stage.run(annotations=annotations, images=images, subset=subset, keep_all=keep_all, size=size, out=out, strict=strict, workers=workers)


@convert_app.command("unify")
def convert_unify(
    name: Annotated[str, typer.Option(help="MSRA10K, ECSSD, PASCAL-S, PASCALVOC2012 or COCO.")],
    source: Annotated[Path, typer.Option("--src", help="Folder of the unpacked set.")],
    destination: Annotated[Path, typer.Option("--dst", help="Where to write JPEGImages/<NAME> and Annotations/<NAME>.")],
    workers: Workers = 1,
) -> None:
    """Bring a set of still images with masks into one layout."""
    from noisyvos.stages import unify as stage

    stage.run(name, source=source, destination=destination, workers=workers)


@app.command("check")
def check_dataset(
    dataset: Annotated[Path, typer.Option(help="A converted dataset, or a DAVIS-style folder.")],
    expect: Annotated[Path, typer.Option(help="A sources.yaml with published counts.")] = Path("params/sources.yaml"),
    workers: Workers = 1,
) -> None:
    """Read a whole dataset once and say what is in it; exit code 1 if it cannot be used as it is."""
    from noisyvos.stages import check as stage

    if not stage.run(dataset, expect=expect, workers=workers):
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

    stage.run(dataset, noise=noise, out=out, manifest=manifest, seed=seed, params=params, workers=workers)


@app.command("noise-preview")
def noise_preview(
    dataset: Annotated[Path, typer.Option(help="A converted video dataset.")],
    out: Annotated[Path, typer.Option("--out", help="The picture (PNG) to write.")],
    noise: Annotated[list[str] | None, typer.Option("--noise", help="A noise setting; repeat for several. Default: all.")] = None,
    frame: Annotated[str | None, typer.Option(help="<sequence>/<frame>. Default: the frame with most objects.")] = None,
    seed: Seed = 0,
    params: Params = Path("params"),
) -> None:
    """Show what label noise does to one frame."""
    from noisyvos.stages import noise_preview as stage

    stage.run(dataset, out=out, noises=noise or (), frame=frame, seed=seed, params=params)


Model = Annotated[str, typer.Option(help="A network of models.yaml.")]
MethodName = Annotated[str, typer.Option("--method", help="A method of methods.yaml.")]
ScheduleName = Annotated[str, typer.Option("--schedule", help="A schedule of train.yaml.")]
WeightsOut = Annotated[Path, typer.Option("--weights", help="Where to write the trained weights (safetensors).")]
SummaryOut = Annotated[Path, typer.Option("--summary", help="Where to write settings, achieved noise and final losses (JSON).")]
CurveOut = Annotated[Path, typer.Option("--curve", help="Where to write the training curve (CSV).")]
Scratch = Annotated[Path, typer.Option("--scratch", help="Folder of checkpoints, to resume from.")]
CellKey = Annotated[str, typer.Option("--cell", help="Key of the cell, which names the checkpoint and the tracked run.")]
PresetName = Annotated[str, typer.Option("--preset", help="Preset the cell belongs to.")]
Init = Annotated[Path | None, typer.Option("--init", help="Weights to start from; none: from scratch.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="CPU threads of torch.")]
Track = Annotated[bool, typer.Option("--track/--no-track", help="Write the curve to MLflow as well.")]
Processes = Annotated[int | None, typer.Option("--processes", min=1, help="That share each batch. Default: one a GPU of the job, else 1.")]
Profile = Annotated[Path | None, typer.Option("--profile", help="Where to write a trace of iterations 5 to 10 (JSON).")]
Deterministic = Annotated[bool, typer.Option("--deterministic", help="On a GPU: the same bits each time, slower.")]


@app.command()
def pretrain(
    model: Model,
    clips: Annotated[Path, typer.Option(help="Folder of still-image clips (`synth`); with --recipe a converted image dataset.")],
    method: MethodName,
    schedule: ScheduleName,
    weights: WeightsOut,
    summary: SummaryOut,
    curve: CurveOut,
    cell: CellKey,
    preset: PresetName,
    seed: Seed = 0,
    init: Init = None,
    recipe: Annotated[str | None, typer.Option(help="Make clips of this recipe of synth.yaml while training, none stored.")] = None,
    scratch: Scratch = Path("scratch"),
    params: Params = Path("params"),
    device: Device = "auto",
    threads: Threads = 1,
    track: Track = True,
    processes: Processes = None,
    profile: Profile = None,
    deterministic: Deterministic = False,
) -> None:
    """Train a network on still-image clips, once for all cells that start from it."""
    from noisyvos.stages import pretrain as stage

    names = {"model": model, "method": method, "schedule": schedule, "seed": seed, "cell": cell, "preset": preset}
    outputs = {"weights": weights, "summary": summary, "curve": curve, "scratch": scratch}
    machine = {"device": device, "threads": threads, "processes": processes, "deterministic": deterministic}
    task = stage.Task(stage="pretrain", **names, **outputs, **machine, init=init, params=params, track=track, profile=profile)
    stage.run(task, clips=clips, recipe=recipe)


@app.command()
def train(
    dataset: Annotated[Path, typer.Option(help="A converted video dataset.")],
    masks: Annotated[Path, typer.Option(help="The labels to train on (zip or folder of `noise`).")],
    noise_manifest: Annotated[Path, typer.Option(help="What `noise` wrote beside them.")],
    method: MethodName,
    model: Model,
    schedule: ScheduleName,
    weights: WeightsOut,
    summary: SummaryOut,
    curve: CurveOut,
    cell: CellKey,
    preset: PresetName,
    seed: Seed = 0,
    init: Init = None,
    scratch: Scratch = Path("scratch"),
    params: Params = Path("params"),
    device: Device = "auto",
    threads: Threads = 1,
    track: Track = True,
    processes: Processes = None,
    profile: Profile = None,
    deterministic: Deterministic = False,
) -> None:
    """Train a network on videos with (noisy) labels: one cell of the grid."""
    from noisyvos.stages import train as stage

    names = {"model": model, "method": method, "schedule": schedule, "seed": seed, "cell": cell, "preset": preset}
    outputs = {"weights": weights, "summary": summary, "curve": curve, "scratch": scratch}
    machine = {"device": device, "threads": threads, "processes": processes, "deterministic": deterministic}
    task = stage.Task(stage="train", **names, **outputs, **machine, init=init, params=params, track=track, profile=profile)
    stage.run(task, dataset=dataset, masks=masks, manifest=noise_manifest)


@app.command()
def infer(
    out: Annotated[Path, typer.Option("--out", help="The mask collection (zip) to write; with --video a folder.")],
    dataset: Annotated[Path | None, typer.Option(help="A converted video dataset.")] = None,
    model: Annotated[str | None, typer.Option(help="A network of models.yaml.")] = None,
    weights: Annotated[str | None, typer.Option(help="Its weights (safetensors); none: an untrained network.")] = None,
    baseline: Annotated[str | None, typer.Option(help="Instead of a network: first_mask copies the first mask.")] = None,
    video: Annotated[Path | None, typer.Option(help="Instead of a dataset: a clip of your own, as with `segment`.")] = None,
    mask: Annotated[Path | None, typer.Option(help="With --video: the mask of its first frame.")] = None,
    movie: Annotated[Path | None, typer.Option(help="With --video: an MP4 with the masks drawn on the frames.")] = None,
    settings: Annotated[str, typer.Option(help="An entry of eval.yaml.")] = "default",
    params: Params = Path("params"),
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Segment every video of a dataset from its first masks, or (--video, --mask) one clip."""
    common = {"settings": settings, "params": params, "device": device, "threads": threads}
    if (dataset is None) == (video is None):
        raise UserError("Give --dataset for a converted dataset, or --video with --mask for a clip of your own.")
    if video is None:
        if mask is not None or movie is not None:
            raise UserError("--mask and --movie belong to --video; the masks of a dataset lie in it.")
        from noisyvos.stages import infer as stage

        stage.run(dataset, out=out, model=model, weights=weights, baseline=baseline, **common)
        return
    if mask is None or model is None or weights is None or baseline is not None:
        raise UserError("--video goes with --mask, --model and --weights, and without --baseline.")
    from noisyvos.stages import segment as own

    own.run(video, mask, out=out, model=model, weights=weights, movie=movie, **common)


app.command("segment")(cli_outside.segment)
app.command("check-submission")(cli_outside.check_submission)
app.command("start-weights")(cli_outside.start_weights)


@app.command()
def score(
    results: Annotated[Path, typer.Option(help="Predicted masks: a folder or zip of <sequence>/<frame>.png.")],
    truth: Annotated[Path, typer.Option(help="True masks: a folder or zip in the same layout.")],
    out: Out,
    protocol: Annotated[str, typer.Option(help="davis, visor, youtube_vos, long_videos or all_frames.")] = "davis",
    subset: Annotated[str, typer.Option("--set", help="Name of the set in the CSV files of the DAVIS tool.")] = "val",
    split: Annotated[Path | None, typer.Option(help="Text file with a sequence a line; none: all of the truth.")] = None,
    decay: Annotated[str, typer.Option(help="intended, or official: as the DAVIS tool, wrong from 257 frames on.")] = "intended",
    binary: Annotated[bool, typer.Option("--binary", help="Any non-zero value is object 1 (DAVIS 2016).")] = False,
    rgb: Annotated[bool, typer.Option("--rgb", help="Read RGB predictions by the DAVIS palette.")] = False,
    ignore_extra_ids: Annotated[bool, typer.Option("--ignore-extra-ids", help="Predicted ids that are no object are background.")] = False,
    skip_missing: Annotated[bool, typer.Option("--skip-missing", help="Leave out sequences without predictions.")] = False,
    cell: Annotated[str | None, typer.Option(help="Training cell, for tracking; none: no tracking.")] = None,
    preset: Annotated[str, typer.Option(help="Preset, for tracking.")] = "none",
    summary: Annotated[Path | None, typer.Option(help="Training summary, for tracking.")] = None,
    workers: Workers = 1,
) -> None:
    """Score predicted masks: J, F and J&F."""
    from noisyvos.stages import score as stage

    lenience = {"ignore_extra_ids": ignore_extra_ids, "skip_missing": skip_missing}
    options = {"decay": decay, "binary": binary, "rgb": rgb, **lenience}
    task = stage.Task(results, truth, out, protocol=protocol, subset=subset, split=split, workers=workers, options=options)
    stage.run(task, stage.Tracking(cell, preset, summary))


Cells = Annotated[Path, typer.Option("--cells", help="The generated grid.")]
Results = Annotated[Path, typer.Option("--results", help="Folder of the preset's scores and training summaries.")]
Predictions = Annotated[Path, typer.Option("--predictions", help="Folder of the preset's predicted masks.")]
Converted = Annotated[Path, typer.Option("--converted", help="Folder of the converted datasets.")]


@app.command()
def tables(
    results: Results,
    predictions: Predictions,
    out: Out,
    cells: Cells = Path("params/cells.yaml"),
    converted: Converted = Path("data/converted"),
) -> None:
    """Write the tables of a preset as Markdown, LaTeX and CSV."""
    from noisyvos.stages import tables as stage

    stage.run(cells=cells, results=results, predictions=predictions, converted=converted, out=out)


@app.command()
def figures(
    results: Results,
    predictions: Predictions,
    out: Out,
    cells: Cells = Path("params/cells.yaml"),
    converted: Converted = Path("data/converted"),
    params: Params = Path("params"),
    clips: Annotated[Path, typer.Option(help="Folder of the sets of still-image clips.")] = Path("data/synth"),
) -> None:
    """Draw noise curves, training curves and example videos of a preset."""
    from noisyvos.stages import figures as stage

    stage.run(cells=cells, results=results, predictions=predictions, converted=converted, params=params, clips=clips, out=out)


@app.command()
def report(
    results: Results,
    predictions: Predictions,
    figures: Annotated[Path, typer.Option(help="Folder of the preset's figures.")],
    out: Out,
    cells: Cells = Path("params/cells.yaml"),
    converted: Converted = Path("data/converted"),
) -> None:
    """Write the self-contained report page of a preset."""
    from noisyvos.stages import report as stage

    stage.run(cells=cells, results=results, predictions=predictions, converted=converted, figures=figures, out=out)


@app.command()
def track(
    results: Results,
    predictions: Predictions,
    cells: Cells = Path("params/cells.yaml"),
    converted: Converted = Path("data/converted"),
) -> None:
    """Bring MLflow in step with the results of a preset."""
    from noisyvos.stages import track as stage

    stage.run(cells=cells, results=results, predictions=predictions, converted=converted)


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


@app.command()
def grid(
    preset: Annotated[str, typer.Option(help="A preset of params/presets.")] = "demo",
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if the grid is not what its preset gives.")] = False,
    params: Params = Path("params"),
) -> None:
    """Write the generated grid that Snakemake and DVC both read."""
    from noisyvos import grid as module

    if check:
        module.require_fresh(params)
    else:
        module.write(preset, params)


@app.command()
def plan(
    name: Annotated[str, typer.Argument(help="A preset of params/presets.")] = "demo",
    params: Params = Path("params"),
) -> None:
    """Say what a preset would run, and about how much disk it takes; writes nothing."""
    from noisyvos.plan import describe

    print(describe(name, params))


@app.command("check-params")
def check_params(params: Params = Path("params")) -> None:
    """Validate every parameter file and preset; all errors at once."""
    from noisyvos.config import check

    check(params)
    print(f"{params}: all parameter files are valid")


@app.command()
def record() -> None:
    """After `snakemake`: tell DVC which cells are up to date."""
    from noisyvos import handshake

    handshake.record()


@app.command()
def adopt() -> None:
    """After `dvc pull` or `dvc repro`: tell Snakemake which cells are up to date."""
    from noisyvos import handshake

    handshake.adopt()


def main() -> None:
    """Run the command line; an error meant for the user is one sentence on stderr and exit code 1."""
    try:
        app()
    except (UserError, FileNotFoundError) as error:
        print(f"noisyvos: {error}", file=sys.stderr)
        sys.exit(1)
