"""Commands that run networks over datasets and videos, and that join several runs."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from noisyvos.cli.app import Params, app
from noisyvos.errors import UserError
from noisyvos.limits import LONGEST_SIDE, MOST_THREADS

SettingsName = Annotated[str, typer.Option("--settings", help="An entry of eval.yaml.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Threads = Annotated[
    int, typer.Option("--threads", min=1, max=MOST_THREADS, help="CPU threads of torch.")
]
Memory = Annotated[
    list[str] | None,
    typer.Option(
        "--memory",
        metavar="KEY=VALUE",
        help="A setting of the network's memory, before that of eval.yaml. May be repeated.",
    ),
]
Budget = Annotated[
    int | None, typer.Option(help="AFB-URR: features in the bank, all channels together.")
]
UpdateRate = Annotated[
    float | None, typer.Option(help="AFB-URR: share of a new feature in the one that absorbs it.")
]
MemEvery = Annotated[
    int | None, typer.Option(help="XMem, STM, AOC-Net: every so many frames enter the memory.")
]
Viz = Annotated[
    Path | None, typer.Option(help="Folder for pictures of the masks drawn on the frames.")
]
Probabilities = Annotated[
    Path | None,
    typer.Option("--save-probabilities", help="Folder for the probabilities, as `merge` reads."),
]


def _memory(pairs: list[str] | None, *named: Any) -> Any:
    """Return the memory options, None if no option is given."""
    from noisyvos.inference.settings import MemoryOptions

    options = MemoryOptions(tuple(pairs or ()), *named)
    return None if options == MemoryOptions() else options


def _overlays(viz: Path | None) -> AbstractContextManager[Any]:
    """Return a context that yields what draws overlays; nothing is imported without `viz`."""
    if viz is None:
        return nullcontext()
    from noisyvos.media.overlays import overlay_folder

    return overlay_folder(viz)


@app.command()
def infer(
    out: Annotated[
        Path,
        typer.Option("--out", help="The mask collection (zip) to write; with --video a folder."),
    ],
    dataset: Annotated[Path | None, typer.Option(help="A converted video dataset.")] = None,
    model: Annotated[str | None, typer.Option(help="A network of models.yaml.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Its weights (safetensors); none: an untrained network.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Instead of a network: first_mask copies the first mask.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="Masks to give in place of the dataset's own (noisy ones, say)."),
    ] = None,
    corruption: Annotated[
        str | None,
        typer.Option(help="An entry of corruptions.yaml: disturb every frame of the dataset."),
    ] = None,
    disturb: Annotated[
        list[str] | None,
        typer.Option(
            "--disturb",
            metavar="NAME[=ZIP]",
            help="Several runs in one, each as with --prompts (prompt_NAME=ZIP) or --corruption "
            "(corruption_ENTRY); --out is then a folder. May be repeated.",
        ),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(help="Instead of a dataset: your own video, as with `segment`."),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="With --video: the mask of its first frame.")
    ] = None,
    movie: Annotated[
        Path | None, typer.Option(help="With --video: an MP4 with the masks drawn on the frames.")
    ] = None,
    settings: SettingsName = "default",
    memory: Memory = None,
    budget: Budget = None,
    update_rate: UpdateRate = None,
    mem_every: MemEvery = None,
    viz: Viz = None,
    save_probabilities: Probabilities = None,
    params: Params = Path("params"),
    device: Device = "auto",
    threads: Threads = 1,
    videos_at_once: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            help="With --dataset: videos segmented side by side (1). On a CPU it changes no byte "
            "of the result.",
        ),
    ] = None,
) -> None:
    """Segment every video of a dataset from its first masks, or one video (--video, --mask)."""
    common = {
        "settings": settings,
        "memory": _memory(memory, budget, update_rate, mem_every),
        "params": params,
        "device": device,
        "threads": threads,
    }
    if (dataset is None) == (video is None):
        raise UserError(
            "Give --dataset for a converted dataset, or --video with --mask for your own video."
        )
    if dataset is not None:
        if mask is not None or movie is not None:
            raise UserError("--mask and --movie belong to --video; a dataset has its own masks.")
        from noisyvos.stages import infer as stage

        with _overlays(viz) as draw:
            stage.run(
                dataset,
                out=out,
                model=model,
                weights=weights,
                baseline=baseline,
                prompts=prompts,
                corruption=corruption,
                disturb=disturb or (),
                videos_at_once=videos_at_once or 1,
                probabilities=save_probabilities,
                draw=draw,
                **common,
            )
        return
    foreign = {
        "--baseline": baseline,
        "--prompts": prompts,
        "--corruption": corruption,
        "--disturb": disturb,
        "--videos-at-once": videos_at_once,
    }
    given = any(value is not None for value in foreign.values())
    if video is None or mask is None or model is None or weights is None or given:
        raise UserError(
            f"--video goes with --mask, --model and --weights, and without {', '.join(foreign)}."
        )
    from noisyvos.stages import segment as own

    outputs = own.Outputs(out, movie, viz=viz, probabilities=save_probabilities)
    own.run(video, mask, outputs, model=model, weights=weights, **common)


@app.command()
def segment(
    video: Annotated[Path, typer.Option(help="A movie file or a folder of frames.")],
    mask: Annotated[
        Path,
        typer.Option(
            help="Index mask (PNG) of the first frame, or a folder of masks named as their frames."
        ),
    ],
    model: Annotated[str, typer.Option(help="A network of models.yaml.")],
    weights: Annotated[
        str, typer.Option(help="Weights: trained here (safetensors) or published (.pth).")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Folder; the masks go into its subfolder masks.")
    ],
    movie: Annotated[
        Path | None, typer.Option(help="An MP4 to write with the masks drawn on the frames.")
    ] = None,
    overlays: Annotated[
        bool,
        typer.Option("--overlays", help="Write the same pictures into the subfolder overlays."),
    ] = False,
    viz: Viz = None,
    save_probabilities: Probabilities = None,
    one_object: Annotated[
        bool,
        typer.Option("--one-object", help="Read masks of 0 and 255 or grey levels as one object."),
    ] = False,
    size: Annotated[
        int | None,
        typer.Option(
            min=1, max=LONGEST_SIDE, help="Shorter side to work at; none: as eval.yaml says."
        ),
    ] = None,
    settings: SettingsName = "default",
    memory: Memory = None,
    budget: Budget = None,
    update_rate: UpdateRate = None,
    mem_every: MemEvery = None,
    params: Params = Path("params"),
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Segment your own video from the mask of its first frame."""
    from noisyvos.stages import segment as stage

    stage.run(
        video,
        mask,
        stage.Outputs(out, movie, overlays, viz, save_probabilities),
        one_object=one_object,
        size=size,
        device=device,
        threads=threads,
        model=model,
        weights=weights,
        settings=settings,
        memory=_memory(memory, budget, update_rate, mem_every),
        params=params,
    )


@app.command()
def merge(
    probabilities: Annotated[
        list[Path],
        typer.Argument(help="Folders that `infer --save-probabilities` wrote, over equal videos."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The mask collection (zip) to write.")],
) -> None:
    """Join several runs, for example at several sizes: the largest summed probability wins."""
    from noisyvos.stages import merge as stage

    stage.run(probabilities, out=out)


@app.command()
def spread(
    scores: Annotated[
        list[Path], typer.Argument(help="Folders that `score` wrote, over the same videos.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The table (CSV) to write.")],
) -> None:
    """Report mean and spread of several runs' scores, as of five sets of scribbles."""
    from noisyvos.stages import spread as stage

    stage.run(scores, out=out)
