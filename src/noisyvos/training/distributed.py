"""Several processes that train together on one machine: their group, their start and their end.

Every process holds the whole learner and takes the same steps. A batch is a function of (seed,
iteration, index), so each process makes only its samples. The loss of a process carries the weight
of its samples, and DistributedDataParallel sums the gradients. The sum equals the gradient of one
process up to rounding, for any division of the batch.
"""

import multiprocessing
import os
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from noisyvos.errors import UserError

if TYPE_CHECKING:
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
PATIENCE = 10.0  # seconds from the end of one process until those that wait for it are killed
SAVING = 600.0  # seconds that processes have to save themselves after a request to stop
_LOST = 75  # exit code of a process that lost contact to another one
_REFUSED = 1  # exit code of a process that met an error meant for the user
_COMMUNICATION = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe", re.I)


class LostContact(RuntimeError):
    """Another process of the group went away."""


# ---- the group


@dataclass(frozen=True)
class Group:
    """One process among `size`. The default is a single process, which communicates with nobody."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files, tracks the run and shows progress."""
        return self.rank == 0

    def rows(self, batch: int) -> range:
        """Return the samples of a batch for this process: consecutive, and shared evenly."""
        return range(self.rank * batch // self.size, (self.rank + 1) * batch // self.size)

    def all_reduce(self, values: list[float]) -> list[float]:
        """Return the sum of each value over all processes."""
        if self.size == 1:
            return values
        import torch
        from torch import distributed

        total = torch.tensor(values, dtype=torch.float64)
        with contact():
            distributed.all_reduce(total)
        return total.tolist()

    def broadcast(self, value: Any) -> Any:
        """Return what the leading process passed."""
        if self.size == 1:
            return value
        from torch import distributed

        held = [value]
        with contact():
            distributed.broadcast_object_list(held, src=0)
        return held[0]

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, by rank, to the leading one; [] to the others."""
        if self.size == 1:
            return [value]
        from torch import distributed

        found: list[Any] | None = [None] * self.size if self.leads else None
        with contact():
            distributed.gather_object(value, found, dst=0)
        return found or []

    def all_gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, by rank, to each of them."""
        if self.size == 1:
            return [value]
        from torch import distributed

        found: list[Any] = [None] * self.size
        with contact():
            distributed.all_gather_object(found, value)
        return found


ALONE = Group()


@contextmanager
def contact() -> Iterator[None]:
    """Raise LostContact in place of the errors of torch's communication."""
    import torch
    from torch import distributed

    try:
        yield
    except (LostContact, torch.OutOfMemoryError):
        raise
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or _COMMUNICATION.search(str(error)):
            raise LostContact(str(error)) from error
        raise


def data_parallel(module: "nn.Module") -> "DistributedDataParallel":
    """Return `module` so that each backward pass adds up the gradients of all processes.

    A parameter that no process used keeps no gradient. All processes start from the weights of
    the leading one. Buffers are not shared: running statistics are frozen in training.
    """
    import torch
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    def sum_gradients(
        _: object, bucket: distributed.GradBucket
    ) -> torch.futures.Future[torch.Tensor]:
        """Add up a bucket of gradients; without this hook the result would be their mean."""
        work = distributed.all_reduce(bucket.buffer(), async_op=True)
        assert work is not None  # only processes outside the group get none
        return work.get_future().then(lambda future: future.value()[0])

    with contact():
        wrapped = DistributedDataParallel(
            module,
            broadcast_buffers=False,
            find_unused_parameters=True,
            gradient_as_bucket_view=True,
        )
        wrapped.register_comm_hook(None, sum_gradients)
    return wrapped


# ---- how many processes, and their start


def choose_count(asked: int | None, device: str) -> int:
    """Return how many processes train.

    In order: the number that torchrun started, the number asked for, one for each GPU that
    CUDA_VISIBLE_DEVICES grants, 1. A job without that variable uses one GPU even if the machine
    has more. UserError if the numbers contradict each other.
    """
    started = _started_by_torchrun()
    if started is not None:
        if asked not in (None, started.size):
            raise UserError(
                f"torchrun started {started.size} processes, --processes says {asked}: "
                "leave --processes out."
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
            f"{asked} processes need {asked} GPUs, this job holds {len(granted)}: "
            "lower --processes, or use --device cpu."
        )
    return asked or len(granted)


def run_together(work: Callable[..., None], arguments: tuple[Any, ...], count: int) -> None:
    """Call `work(*arguments, group)` in `count` processes.

    It runs in this process if `count` is 1 or torchrun has started the others. `work` and
    `arguments` must pickle. SIGTERM, SIGUSR1 and SIGINT reach all processes.

    Raises UserError with the message of a process that met one, or with the number of the process
    that died first (the others are ended). Raises SystemExit with the exit code of processes that
    saved themselves after a request to stop.
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
        _judge([process.exitcode or 0 for process in processes], [pipe[0] for pipe in pipes])


def _started_by_torchrun() -> Group | None:
    """Return this process's place in the group of torchrun; UserError if it spans machines."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    rank, size, here = (
        int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    )
    if here != size:
        raise UserError(
            f"torchrun started {size} processes on several machines ({here} on this one); "
            "a training runs on one machine."
        )
    return Group(rank, size)


def _be_one_of(group: Group, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Do this process's part in a group that torchrun starts and ends."""
    from torch import distributed

    _join(group, "env://")
    try:
        work(*arguments, group)
        group.all_reduce([0.0])  # nobody leaves while another may still need it
    except LostContact as error:
        raise UserError(
            f"Process {group.rank} lost another one; the same command goes on from the last "
            "checkpoint."
        ) from error
    # The group's threads must not outlive the interpreter, or the process may abort at its end.
    distributed.destroy_process_group()


def _join(group: Group, meet: str) -> None:
    """Join the group: NCCL for tensors on GPUs if each process has a GPU, gloo for the rest."""
    import torch
    from torch import distributed

    # All processes are on this machine, so gloo uses the loopback interface.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
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


# ---- one started process


def _member(
    work: Callable[..., None],
    arguments: tuple[Any, ...],
    group: Group,
    meeting: str,
    pipe: connection.Connection,
    own: str,
) -> None:
    """Be one of the processes; `own` is the start method of its data loader's workers."""
    multiprocessing.set_start_method(own, force=True)
    for number in STOP_SIGNALS:  # until the training handles them, they just end the process
        signal.signal(number, _exit_on_signal)
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        _join(group, f"file://{meeting}/store")
        work(*arguments, group)
        group.all_reduce([0.0])  # nobody leaves while another may still need it
    except (UserError, FileNotFoundError) as error:
        pipe.send(str(error))
        _leave(_REFUSED)
    except LostContact as error:
        why = str(error).splitlines()[0][:120]
        print(f"noisyvos: process {group.rank} lost another one ({why}).", file=sys.stderr)
        _leave(_LOST)
    except SystemExit as ended:
        _leave(int(ended.code or 0))
    except BaseException:
        traceback.print_exc()
        _leave(70)
    _leave(0)


def _exit_on_signal(number: int, _: object) -> None:
    os._exit(128 + number if number == signal.SIGINT else 128 + signal.SIGTERM)


def _leave(code: int) -> None:
    """End at once: the clean-up of libraries waits for processes that may be gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _follow_parent() -> None:
    """End this process when its parent ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(_LOST)


# ---- the process that started the others


def _pass_on(processes: list[Any], number: int) -> None:
    for process in processes:
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, number)


def _wait(processes: list[Any]) -> None:
    """Return when all processes ended, or one failed and the others had time to notice."""
    deadline = None
    while running := [process for process in processes if process.is_alive()]:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return
        connection.wait([process.sentinel for process in running], left)
        codes = [process.exitcode for process in processes if process.exitcode]
        if codes and deadline is None:
            saved = all(code > 128 for code in codes)
            deadline = time.monotonic() + (SAVING if saved else PATIENCE)


def _end(processes: list[Any]) -> None:
    for process in processes:
        if process.pid is not None:
            if process.is_alive():
                process.kill()
            process.join()


def _judge(codes: list[int], pipes: list[connection.Connection]) -> None:
    """Raise what the exit `codes` of a group mean; the first cause counts, not what followed."""
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
    code = codes[first]
    if not code:
        return
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed (exit code {code})"
    hint = (
        " SIGKILL often means that the machine ran out of memory."
        if code == -signal.SIGKILL
        else ""
    )
    raise UserError(
        f"Process {first} of {len(codes)} {how}, so the others were ended too.{hint} "
        "If it wrote one, the last checkpoint is kept: the same command goes on from it."
    )
