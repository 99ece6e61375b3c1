# Where and how much: threads, GPUs, memory, retries, logs. What each stage reads, runs and writes is in dvc.yaml.
from pathlib import Path

from snakemake.utils import min_version

from noisyvos.pipeline import gpu_lease as gpus

from noisyvos.pipeline import grid

from noisyvos.pipeline import dvc_yaml as stages
from noisyvos.params.validate import check_once

min_version("9.18")

check_once(Path("params"), stamp=Path("scratch/params-checked"))
grid.require_fresh(Path("params"))
PIPELINE = stages.load()
PRESET = PIPELINE.cells["preset"]
# A network of the demo's size gains nothing from more threads, and cells run side by side on a CPU; a GPU waits for data.
TRAIN_THREADS, TRAIN_MEMORY = (4, 24000) if gpus.visible_gpus() else (1, 1500)
GPUS_PER_TRAINING = int(config.get("gpus_per_training", 1))


wildcard_constraints:
    key=r"[a-z0-9_-]+",


rule all:
    input:
        PIPELINE.outputs(["tables", "figures", "report"]),


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


onstart:
    stages.refuse_declared(PRESET)
