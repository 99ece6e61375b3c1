# Where and how much: one rule for each stage of dvc.yaml, made in a loop over NEEDS.
# The numbers never depend on the machine that reads this file: a profile changes them for a machine.
from snakemake.settings.types import DeploymentMethod

from noisyvos.pipeline.needs import Needs

GPUS = int(config.get("gpus_per_training", 1))

# A job on a GPU leases a free one; without a GPU its command just runs.
CPU = "NOISYVOS_WORKERS={threads} {params.command} > {log} 2>&1"
GPU = "python -m noisyvos.pipeline.gpu_lease --need {resources.gpu} -- {params.command} > {log} 2>&1"

# Only where it is asked for: Snakemake would format the name of the environment for every job.
CONDA = (
    "../envs/noisyvos.yaml"
    if DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
    else None
)

# stage: threads at most (of a training: of each process), retries, resources (memory in MB, time in
# minutes). Cells of small networks ask for less: noisyvos.pipeline.needs.
NEEDS = {
    "generate": (8, 0, {"mem_mb": 2000, "runtime": 60}),
    "download": (4, 0, {"mem_mb": 2000, "runtime": 1440}),
    "convert": (4, 0, {"mem_mb": 4000, "runtime": 480}),
    "link": (4, 0, {"mem_mb": 4000, "runtime": 480}),
    "mix": (2, 0, {"mem_mb": 2000, "runtime": 240}),
    "synth": (8, 0, {"mem_mb": 4000, "runtime": 240}),
    "scribbles": (1, 0, {"mem_mb": 2000, "runtime": 240}),
    "noise": (1, 0, {"mem_mb": 2000, "runtime": 480}),
    "start": (1, 0, {"mem_mb": 4000, "runtime": 60}),
    "start_from": (1, 0, {"mem_mb": 4000, "runtime": 60}),
    "pretrain": (16, 2, {"gpu": GPUS, "mem_mb": 24000, "runtime": 2880}),
    "pretrain_live": (16, 2, {"gpu": GPUS, "mem_mb": 32000, "runtime": 2880}),
    "pretrain_videos": (16, 2, {"gpu": GPUS, "mem_mb": 24000, "runtime": 2880}),
    "train": (16, 2, {"gpu": GPUS, "mem_mb": 24000, "runtime": 2880}),
    "baseline": (1, 0, {"mem_mb": 1000, "runtime": 60}),
    "infer": (1, 1, {"gpu": 1, "mem_mb": 16000, "runtime": 480}),
    "infer_noisy": (1, 1, {"gpu": 1, "mem_mb": 16000, "runtime": 480}),
    "baseline_disturbed": (1, 0, {"mem_mb": 2000, "runtime": 120}),
    "infer_disturbed": (1, 1, {"gpu": 1, "mem_mb": 16000, "runtime": 2880}),
    "score": (1, 0, {"mem_mb": 2000, "runtime": 120}),
    "score_disturbed": (1, 0, {"mem_mb": 2000, "runtime": 960}),
    "submit": (1, 0, {"mem_mb": 2000, "runtime": 120}),
    "tables": (1, 0, {"mem_mb": 4000, "runtime": 120}),
    "figures": (4, 0, {"mem_mb": 4000, "runtime": 120}),
    "report": (1, 0, {"mem_mb": 4000, "runtime": 120}),
}

# What runs first where not all can. The way to the first training is a chain, and the rest waits for
# it. Few trainings go before their scores, whose short jobs then fill the cores at the end. With
# many, the first scores shall not wait for the last training.
FEW = 32
WAY = ("generate", "download", "convert", "link", "synth", "start", "start_from")
FIRST = dict.fromkeys((*WAY, "pretrain", "pretrain_live", "pretrain_videos"), 2)
FIRST |= {"train": int(len(PIPELINE.cells_of("train")) <= FEW)}

# What `snakemake --report FILE.zip` shows: stage: (category, pattern of files in a folder).
SHOWN = {
    "tables": ("Tables", "{table}.csv"),
    "figures": ("Figures", "{figure}.png"),
    "report": ("Report", None),
}


def shown(stage, out):
    """Return an output, marked for Snakemake's report where SHOWN has its stage."""
    if stage not in SHOWN:
        return out
    category, pattern = SHOWN[stage]
    return report(
        out,
        category=category,
        caption=f"../report/{stage}.rst",
        patterns=[pattern] if pattern else [],
    )


for STAGE, (THREADS, RETRIES, RESOURCES) in NEEDS.items():
    OF = Needs(PIPELINE, STAGE, THREADS, RESOURCES)

    rule:
        name:
            STAGE
        input:
            PIPELINE[STAGE].inputs,
        output:
            [shown(STAGE, out) for out in PIPELINE[STAGE].files],
            [shown(STAGE, directory(out)) for out in PIPELINE[STAGE].folders],
        log:
            f"logs/{STAGE}/{PIPELINE[STAGE].label}.log",
        benchmark:
            f"logs/benchmark/{STAGE}/{PIPELINE[STAGE].label}.tsv"
        wildcard_constraints:
            key=PIPELINE[STAGE].keys,
        priority: FIRST.get(STAGE, 0)
        retries: int(config.get("retries", RETRIES)) if RETRIES else 0
        conda:
            CONDA
        threads: OF.threads
        resources:
            **OF.resources,
        params:
            command=PIPELINE[STAGE].command,
            tracked=PIPELINE[STAGE].tracked,
        shell:
            GPU if "gpu" in RESOURCES else CPU
