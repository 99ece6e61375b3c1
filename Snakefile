# Where a job runs and what it needs: workflow/rules/stages.smk. What it reads, runs and writes: dvc.yaml.
# `snakemake --config preset=NAME` runs another preset than that of params/cells.yaml.
import os
import sys
from pathlib import Path

from snakemake.utils import min_version

from noisyvos.params.validate import check_once
from noisyvos.pipeline import cluster, code_deps, dvc_yaml, failures, outdated
from noisyvos.watching.display import announce

min_version("9.18")


report: "workflow/report/workflow.rst"


# MLflow takes three seconds to import, which short trainings leave to `tables`
os.environ.setdefault("NOISYVOS_TRACKING", "late")
check_once(Path("params"), stamp=Path("scratch/params-checked"))
code_deps.refresh()
PIPELINE = dvc_yaml.load(preset=str(config.get("preset", "")))
announce(PIPELINE.cells["preset"]["name"])


rule all:
    input:
        PIPELINE.outputs(["submit", "tables", "figures", "report"]),


include: "workflow/rules/stages.smk"


onstart:
    dvc_yaml.refuse_declared(PIPELINE.cells["preset"])
    cluster.refuse_added_profile(sys.argv)
    cluster.refuse_unfit(workflow)
    outdated.watch(PIPELINE, workflow, logger.warning)


onerror:  # not in a dry run, and not where this file or the grid is wrong
    failures.report_scored(PIPELINE, workflow, logger.warning)
