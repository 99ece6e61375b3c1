"""Several processes for one training on one machine: how many, started, asked to stop together, ended together."""

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import connection
from typing import Any

from noisyvos.errors import UserError
from noisyvos.training.group import ALONE, Group, LostContact

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
PATIENCE = 10.0  # seconds between the end of one process and the killing of those that wait for it
SAVING = 600.0  # seconds that processes asked to stop have for it
_LOST, _REFUSED = (
    75,
    1,
)  # exit codes of processes that lost another one, or met an error meant for the user


def choose_count(asked: int | None, device: str) -> int:
    """Return how many processes train: as asked, else one for every GPU that CUDA_VISIBLE_DEVICES grants, else 1.

    Where nothing grants GPUs to this job it takes one, even if the machine has more. Under torchrun: as many as that started.
    """
    started = _started_by_torchrun()
    if started is not None:
        if asked not in (None, started.size):
            raise UserError(
                f"torchrun started {started.size} processes, --processes says {asked}: leave --processes out."
            )
        return started.size
    granted = [
        name
        for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        if name.strip() not in ("", "-1")
    ]
    if device == "cpu" or not granted:
        return asked or 1
    if asked and asked > len(granted):
        raise UserError(
            f"{asked} processes need {asked} GPUs, this job holds {len(granted)}: lower --processes, or use --device cpu."
        )
    return asked or len(granted)


def run_together(work: Callable[..., None], arguments: tuple[Any, ...], count: int) -> None:
    """Call `work(*arguments, group)` in `count` processes, or here if that is 1 or torchrun has started the others.

    work and arguments must pickle. SIGTERM, SIGUSR1 and SIGINT reach all processes. An error for the user is raised here
    again; when a process dies the others are ended and UserError says which one and how. SystemExit with the code of
    processes that saved themselves.
    """
    if count == 1:
        work(*arguments, ALONE)
        return
    started = _started_by_torchrun()
    if started is not None:
        _be_one_of(started, work, arguments)
        return
    context, own = multiprocessing.get_context("spawn"), multiprocessing.get_start_method()
    with tempfile.TemporaryDirectory(prefix="noisyvos-") as meeting:
        pipes = [context.Pipe(duplex=False) for _ in range(count)]
        processes = [
            context.Process(
                target=_member, args=(work, arguments, Group(rank, count), meeting, pipe[1], own)
            )
            for rank, pipe in enumerate(pipes)
        ]
        before = {
            number: signal.signal(number, lambda n, _: _pass_on(processes, n))
            for number in STOP_SIGNALS
        }
        try:
            for process in processes:
                process.start()
            _wait(processes)
        finally:
            _end(processes)
            for number, handler in before.items():
                signal.signal(number, handler)
        _judge([process.exitcode for process in processes], [pipe[0] for pipe in pipes])


def _started_by_torchrun() -> Group | None:
    """Return this process's place in the group that torchrun started it in; UserError where that spans machines."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    rank, size, here = (
        int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    )
    if here != size:
        raise UserError(
            f"torchrun started {size} processes on several machines ({here} on this one); a training runs on one machine."
        )
    return Group(rank, size)


def _be_one_of(group: Group, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Do this process's part of a group that is not ours to start or end."""
    _join(group, "env://")
    try:
        work(*arguments, group)
        group.sums([0.0])  # nobody leaves while another may still need it
    except LostContact as error:
        raise UserError(
            f"Process {group.rank} lost another one; the same command goes on from the last checkpoint."
        ) from error
    _part()


def _pass_on(processes: list[Any], number: int) -> None:
    for process in processes:
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, number)


def _wait(processes: list[Any]) -> None:
    """Return when all have ended, or one badly and the others have had time to notice."""
    deadline = None
    while running := [process for process in processes if process.is_alive()]:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return
        connection.wait([process.sentinel for process in running], left)
        codes = [process.exitcode for process in processes if process.exitcode]
        if codes and deadline is None:
            deadline = time.monotonic() + (
                SAVING if all(code > 128 for code in codes) else PATIENCE
            )


def _end(processes: list[Any]) -> None:
    for process in processes:
        if process.pid is not None:
            if process.is_alive():
                process.kill()
            process.join()


def _judge(codes: list[int], pipes: list[connection.Connection]) -> None:
    """Say how a group ended whose processes left with `codes`; the first cause counts, not what followed from it."""
    messages = [pipe.recv() if pipe.poll() else None for pipe in pipes]
    for message in messages:
        if message is not None:
            raise UserError(message)
    asked = [code for code in codes if code > 128]
    if asked and all(code > 128 or code == 0 for code in codes):
        raise SystemExit(asked[0])
    # Processes killed here because they waited for the one that had failed come last.
    order = sorted(
        range(len(codes)), key=lambda rank: (codes[rank] == 0, codes[rank] == _LOST, rank)
    )
    first = next((rank for rank in order if codes[rank] > 0 and codes[rank] != _LOST), order[0])
    if codes[first]:
        how = (
            f"was ended by {signal.Signals(-codes[first]).name}"
            if codes[first] < 0
            else f"failed with exit code {codes[first]}"
        )
        hint = (
            " SIGKILL often means that the machine ran out of memory."
            if codes[first] == -signal.SIGKILL
            else ""
        )
        raise UserError(
            f"Process {first} of {len(codes)} {how}, so the others were ended too.{hint} "
            "The last checkpoint is kept: the same command goes on from it."
        )


def _member(
    work: Callable[..., None],
    arguments: tuple[Any, ...],
    group: Group,
    meeting: str,
    pipe: connection.Connection,
    own: str,
) -> None:
    """Be one of the processes; `own` is how it starts those that read ahead for it."""
    multiprocessing.set_start_method(own, force=True)
    for (
        number
    ) in STOP_SIGNALS:  # until the training takes over, a request to stop just ends the process
        signal.signal(
            number, lambda n, _: os._exit(128 + n if n == signal.SIGINT else 128 + signal.SIGTERM)
        )
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        _join(group, f"file://{meeting}/store")
        work(*arguments, group)
        group.sums([0.0])  # nobody leaves while another may still need it
    except (UserError, FileNotFoundError) as error:
        pipe.send(str(error))
        _leave(_REFUSED)
    except LostContact as error:
        print(
            f"noisyvos: process {group.rank} lost another one ({str(error).splitlines()[0][:120]}).",
            file=sys.stderr,
        )
        _leave(_LOST)
    except SystemExit as ended:
        _leave(int(ended.code or 0))
    except BaseException:
        traceback.print_exc()
        _leave(70)
    _leave(0)


def _leave(code: int) -> None:
    """End at once: the libraries' own tidying up waits for processes that may be gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    connection.wait([parent.sentinel])
    os._exit(_LOST)


def _part() -> None:
    """Leave the group: its threads must not outlive the interpreter, or the process may abort on its way out."""
    from torch import distributed

    distributed.destroy_process_group()


def _join(group: Group, meet: str) -> None:
    import torch
    from torch import distributed

    os.environ.setdefault(
        "GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo"
    )  # all on this machine
    backend = "gloo"
    if torch.cuda.is_available() and torch.cuda.device_count() >= group.size:
        torch.cuda.set_device(group.rank)
        backend = "cpu:gloo,cuda:nccl"
    distributed.init_process_group(
        backend,
        init_method=meet,
        rank=group.rank,
        world_size=group.size,
        timeout=timedelta(hours=1),
    )
