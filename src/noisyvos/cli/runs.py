"""Commands that train networks and score what they predict."""

from pathlib import Path
from typing import Annotated

import typer

from noisyvos.cli.app import Out, Params, Seed, Workers, app
from noisyvos.limits import MOST_THREADS

Model = Annotated[str, typer.Option(help="A network of models.yaml.")]
MethodName = Annotated[str, typer.Option("--method", help="A method of methods.yaml.")]
ScheduleName = Annotated[str, typer.Option("--schedule", help="A schedule of train.yaml.")]
WeightsOut = Annotated[
    Path, typer.Option("--weights", help="Where to write the trained weights (safetensors).")
]
SummaryOut = Annotated[
    Path,
    typer.Option(
        "--summary", help="Where to write settings, achieved noise and final losses (JSON)."
    ),
]
CurveOut = Annotated[Path, typer.Option("--curve", help="Where to write the training curve (CSV).")]
Scratch = Annotated[Path, typer.Option("--scratch", help="Folder of checkpoints, to resume from.")]
CellKey = Annotated[
    str,
    typer.Option("--cell", help="Key of the cell, which names the checkpoint and the tracked run."),
]
PresetName = Annotated[str, typer.Option("--preset", help="Preset the cell belongs to.")]
Init = Annotated[
    Path | None, typer.Option("--init", help="Weights to start from; none: from scratch.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Threads = Annotated[
    int, typer.Option("--threads", min=1, max=MOST_THREADS, help="CPU threads of torch.")
]
Track = Annotated[
    bool, typer.Option("--track/--no-track", help="Write the curve to MLflow as well.")
]
Processes = Annotated[
    int | None,
    typer.Option(
        "--processes",
        min=1,
        max=64,
        help="That share each batch. Default: one a GPU of the job, else 1.",
    ),
]
Profile = Annotated[
    Path | None,
    typer.Option("--profile", help="Where to write a trace of iterations 5 to 10 (JSON)."),
]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="On a GPU: the same bits each time, slower.")
]


@app.command()
def start(
    name: Annotated[str, typer.Option("--name", help="A start of starts.yaml.")],
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="The weights (safetensors) to write.")],
    seed: Seed = 0,
    raw: Annotated[Path, typer.Option(help="Folder of all sources.")] = Path("data/raw"),
    params: Params = Path("params"),
) -> None:
    """Write the weights that the first training of a chain begins with."""
    from noisyvos.stages import start as stage

    stage.run(name, model=model, seed=seed, raw=raw, out=out, params=params)


@app.command()
def submit(
    predictions: Annotated[Path, typer.Option(help="The zip of masks, as `infer` writes it.")],
    dataset: Annotated[Path, typer.Option(help="The converted dataset it belongs to.")],
    rules: Annotated[str, typer.Option(help="davis or youtube_vos.")],
    out: Annotated[Path, typer.Option("--out", help="The zip for the server.")],
) -> None:
    """Pack predictions for the server of a benchmark whose true masks are not public."""
    from noisyvos.stages import submit as stage

    stage.run(predictions, dataset=dataset, rules=rules, out=out)


@app.command()
def pretrain(
    model: Model,
    clips: Annotated[
        Path,
        typer.Option(
            help="Folder of still-image clips (`synth`); with --recipe a converted image dataset."
        ),
    ],
    method: MethodName,
    schedule: ScheduleName,
    weights: WeightsOut,
    summary: SummaryOut,
    curve: CurveOut,
    cell: CellKey,
    preset: PresetName,
    seed: Seed = 0,
    init: Init = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Make clips of this recipe of synth.yaml while training, none stored."),
    ] = None,
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

    task = stage.TrainingTask(
        stage="pretrain",
        cell=cell,
        preset=preset,
        model=model,
        method=method,
        schedule=schedule,
        seed=seed,
        params=params,
        weights=weights,
        summary=summary,
        curve=curve,
        scratch=scratch,
        init=init,
        device=device,
        threads=threads,
        track=track,
        processes=processes,
        profile=profile,
        deterministic=deterministic,
    )
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
    block: Annotated[
        str, typer.Option(help="Its first block, whose experiment in MLflow has its run.")
    ] = "",
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

    task = stage.TrainingTask(
        stage="train",
        cell=cell,
        preset=preset,
        block=block,
        model=model,
        method=method,
        schedule=schedule,
        seed=seed,
        params=params,
        weights=weights,
        summary=summary,
        curve=curve,
        scratch=scratch,
        init=init,
        device=device,
        threads=threads,
        track=track,
        processes=processes,
        profile=profile,
        deterministic=deterministic,
    )
    stage.run(task, dataset=dataset, masks=masks, manifest=noise_manifest)


@app.command()
def score(
    results: Annotated[
        Path, typer.Option(help="Predicted masks: a folder or zip of <sequence>/<frame>.png.")
    ],
    truth: Annotated[Path, typer.Option(help="True masks: a folder or zip in the same layout.")],
    out: Out,
    protocol: Annotated[
        str, typer.Option(help="davis, visor, youtube_vos, long_videos or all_frames.")
    ] = "davis",
    subset: Annotated[
        str, typer.Option("--set", help="Name of the set in the CSV files of the DAVIS tool.")
    ] = "val",
    split: Annotated[
        Path | None, typer.Option(help="Text file with a sequence a line; none: all of the truth.")
    ] = None,
    decay: Annotated[
        str,
        typer.Option(help="intended, or official: as the DAVIS tool, wrong from 257 frames on."),
    ] = "intended",
    binary: Annotated[
        bool, typer.Option("--binary", help="Any non-zero value is object 1 (DAVIS 2016).")
    ] = False,
    rgb: Annotated[
        bool, typer.Option("--rgb", help="Read RGB masks by the DAVIS palette.")
    ] = False,
    ignore_extra_ids: Annotated[
        bool,
        typer.Option("--ignore-extra-ids", help="Predicted ids that are no object are background."),
    ] = False,
    each: Annotated[
        bool,
        typer.Option(
            "--each",
            help="--results is a folder of zips, as `infer --disturb` writes; each gets a folder "
            "of scores.",
        ),
    ] = False,
    for_report: Annotated[
        bool,
        typer.Option(
            "--for-report",
            help="Also write areas.csv and examples.zip, which the tables and figures of a preset "
            "need.",
        ),
    ] = False,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out sequences without predictions.")
    ] = False,
    cell: Annotated[
        str | None, typer.Option(help="Training cell, for tracking; none: no tracking.")
    ] = None,
    preset: Annotated[str, typer.Option(help="Preset, for tracking.")] = "none",
    summary: Annotated[Path | None, typer.Option(help="Training summary, for tracking.")] = None,
    workers: Workers = 1,
) -> None:
    """Score predicted masks: J, F and J&F."""
    from noisyvos.stages import score as stage

    lenience = {"ignore_extra_ids": ignore_extra_ids, "skip_missing": skip_missing}
    options = {"decay": decay, "binary": binary, "rgb": rgb, **lenience}
    task = stage.Task(
        results,
        truth,
        out,
        protocol=protocol,
        subset=subset,
        split=split,
        workers=workers,
        for_report=for_report,
        options=options,
    )
    if each:
        stage.run_each(task)
    else:
        stage.run(task, stage.Tracking(cell or "", preset, summary))
