"""What is asked of a SLURM cluster before the first job: can it run this workflow at all?

SLURM accepts jobs that never start, and Snakemake's plug-in waits for them. So each of these is
refused in a sentence: a partition that is not there, more CPUs, memory, time or GPUs than a node of
it has, and a way of asking for states that this cluster does not answer.
"""

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyvos.errors import UserError

PROFILES = "profiles"
_ASK_SECONDS = 60.0
_CHECKS_TO_MISS = 3  # the plug-in uses sacct where squeue forgets jobs within so many checks
_NODES = "%R|%c|%m|%l|%G"  # partition, CPUs, MB, time limit, generic resources
_STATUS = "`slurm-status-command: squeue` in the profile, or `--slurm-status-command squeue`"


@dataclass(frozen=True)
class Ask:
    """What a job asks for."""

    rule: str
    partition: str
    threads: int
    mem_mb: int
    runtime: int
    gpus: int


@dataclass(frozen=True)
class Node:
    """The largest of each that nodes of one kind in a partition offer; minutes None: no limit."""

    partition: str
    cpus: int
    mem_mb: int
    minutes: float | None
    gpus: int


def refuse_added_profile(arguments: Iterable[str]) -> None:
    """Raise UserError if a profile of this repository is added to `profiles/default`."""
    words = list(arguments)
    for at, word in enumerate(words):
        name, _, value = word.partition("=")
        if name == "--profile":
            given = value or (words[at + 1] if at + 1 < len(words) else "")
            if Path(given).parent.name == PROFILES:
                raise UserError(
                    f"`--profile {given}` is read beside profiles/default, which is for one "
                    f"machine. Use `--workflow-profile {given}`, which takes its place."
                )


def refuse_unfit(workflow: Any) -> None:
    """Raise UserError if the SLURM cluster cannot run a job of this workflow of Snakemake.

    Nothing is asked with other executors.
    """
    if workflow.executor_plugin is None or workflow.executor_plugin.name != "slurm":
        return
    try:
        nodes = read_nodes(_answer("sinfo", "--noheader", f"--format={_NODES}"))
        config = read_config(_answer("scontrol", "show", "config"))
    except FileNotFoundError as error:
        raise UserError(
            f"SLURM's command `{error.filename}` is not here. Start Snakemake on a login node."
        ) from None
    settings = workflow.executor_settings
    first_check = int(settings.init_seconds_before_status_checks)
    found = status_faults(config, str(settings.status_command), first_check)
    found += resource_faults(_asks(workflow.dag.needrun_jobs()), nodes)
    if found:
        raise UserError("This cluster cannot run the workflow. " + " ".join(found))


def resource_faults(asks: Iterable[Ask], nodes: list[Node]) -> list[str]:
    """Return a sentence for each kind of job that no node of its partition can take."""
    found: dict[str, None] = {}
    names = sorted({node.partition for node in nodes})
    for ask in asks:
        at = [node for node in nodes if node.partition == ask.partition]
        if not ask.partition:
            continue  # the cluster's default
        if not at:
            found[
                f"There is no partition {ask.partition!r}. Name one of these in the profile: "
                f"{', '.join(names)}."
            ] = None
        elif ask.gpus > max(node.gpus for node in at):
            found[
                f"{ask.rule} asks for {ask.gpus} GPU{'s' * (ask.gpus > 1)}, and a node of "
                f"partition {ask.partition!r} has {max(node.gpus for node in at)}. Name another "
                "partition, or use profiles/slurm-cpu."
            ] = None
        else:
            found |= dict.fromkeys(_too_much(ask, [node for node in at if node.gpus >= ask.gpus]))
    return list(found)


def _too_much(ask: Ask, nodes: list[Node]) -> list[str]:
    found = []
    if ask.threads > (most := max(node.cpus for node in nodes)):
        found.append(
            f"{ask.rule} asks for {ask.threads} CPUs, and a node of partition {ask.partition!r} "
            f"has {most}. Set `set-threads: {{{ask.rule}: {most}}}` in the profile."
        )
    if ask.mem_mb > (most := max(node.mem_mb for node in nodes)):
        found.append(
            f"{ask.rule} asks for {ask.mem_mb} MB, and a node of partition {ask.partition!r} "
            f"has {most}. Set `mem_mb` of {ask.rule} below `set-resources` in the profile."
        )
    limits = [node.minutes for node in nodes]
    longest = max((limit for limit in limits if limit is not None), default=0.0)
    if None not in limits and ask.runtime > longest:
        found.append(
            f"{ask.rule} asks for {ask.runtime} minutes, and partition {ask.partition!r} allows "
            f"{longest:.0f}. Set `runtime` of {ask.rule} below `set-resources` in the profile."
        )
    return found


def status_faults(config: dict[str, str], command: str, first_check: int) -> list[str]:
    """Return a sentence if this cluster does not answer what the plug-in asks.

    command: `sacct` or `squeue`; first_check: seconds until the plug-in asks for the first time.
    """
    if not config.get("AccountingStorageType", "").endswith("/none"):
        return []
    if command == "sacct":
        return [
            f"It keeps no accounts, so `sacct` never tells that a job has ended. Set {_STATUS}."
        ]
    age = int(config.get("MinJobAge", "300").split()[0])
    if age < _CHECKS_TO_MISS * first_check:
        return [
            f"It keeps no accounts, and `squeue` forgets jobs after {age} seconds. Set "
            f"`slurm-init-seconds-before-status-checks: {max(1, age // _CHECKS_TO_MISS)}`."
        ]
    return []


def read_nodes(text: str) -> list[Node]:
    """Return the nodes that `sinfo` lists."""
    nodes = []
    for line in text.splitlines():
        partition, cpus, memory, limit, resources = (part.strip() for part in line.split("|"))
        count, mem_mb = (int(each.rstrip("+")) for each in (cpus, memory))
        nodes.append(Node(partition, count, mem_mb, _minutes(limit), _gpus(resources)))
    return nodes


def read_config(text: str) -> dict[str, str]:
    """Return the values that `scontrol show config` lists."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _gpus(resources: str) -> int:
    """Return the GPUs of `gpu:a100:4(S:0-1),gpu:1,nic:2`."""
    total = 0
    for entry in resources.split(","):
        name, *parts = entry.partition("(")[0].split(":")
        if name == "gpu":
            total += int(parts[-1]) if parts and parts[-1].isdigit() else 1
    return total


def _minutes(limit: str) -> float | None:
    """Return the minutes of `days-hours:minutes:seconds`, `minutes:seconds`; None: no limit."""
    if not limit[:1].isdigit():
        return None
    days, dash, clock = limit.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if dash:  # hours come first
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    else:
        hours, minutes, seconds = (0, 0, *parts)[-3:]
    return int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60


def _asks(jobs: Iterable[Any]) -> Iterable[Ask]:
    seen = set()
    for job in jobs:
        if job.is_local:
            continue
        given = job.resources
        numbers = (int(given.get(name) or 0) for name in ("mem_mb", "runtime", "gpu"))
        ask = Ask(job.rule.name, str(given.get("slurm_partition") or ""), job.threads, *numbers)
        if ask not in seen:
            seen.add(ask)
            yield ask


def _answer(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_ASK_SECONDS, check=False
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"SLURM does not answer `{' '.join(command)}`: {said}.")
    return done.stdout
