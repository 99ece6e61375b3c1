"""What processes of a group do in tests; a module of its own, since they import it by name."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import torch
from training_world import SCHEDULE

from noisyvos import methods, models
from noisyvos.errors import UserError
from noisyvos.training import loop, step, task
from noisyvos.training.batches import make_batch
from noisyvos.training.clip_readers import VideoClips
from noisyvos.training.distributed import Group
from noisyvos.training.schedule import Schedule


def train_with_signal(number: int, to_parent: bool, *arguments) -> None:
    """Train as a stage does.

    In iteration 1 the last process sends signal `number` to its parent or to itself.
    """
    take_step = loop.take_step

    def one_step(learner, clip, iteration):
        if iteration == 1:
            if learner.group.rank == learner.group.size - 1:
                parent = multiprocessing.parent_process()  # not the server that forked this one
                os.kill(parent.pid if to_parent else os.getpid(), number)
            time.sleep(0.5)  # time for the signal to reach all
        return take_step(learner, clip, iteration)

    loop.take_step = one_step
    try:
        task._train(*arguments)
    finally:
        loop.take_step = take_step


def refuse(group) -> None:
    """Meet an error in one process while the other waits for it."""
    if group.rank == 1:
        raise UserError("The second process does not like its labels.")
    group.all_reduce([1.0])


def saved_by_term(*arguments) -> None:
    train_with_signal(signal.SIGTERM, True, *arguments)


def killed(*arguments) -> None:
    train_with_signal(signal.SIGKILL, False, *arguments)


def remembered(world: Path, names: list[str], out: Path, group: Group) -> None:
    """Take four steps of each method that hardly move the weights.

    And write their gradients and the state they leave, by process.

    Before the last step ADELE is told to correct its labels.
    """
    source = VideoClips(world / "data", world / "noisy.zip", 4)
    schedule = Schedule(
        **(SCHEDULE | {"batch": 5, "clip_length": 4, "warmup": 0, "learning_rate": 1e-12})
    )
    for name in names:
        method = methods.build(name, total_iterations=4)
        network = models.build("xmem_tiny", seed=3, width=8, key_dim=8, value_dim=16, hidden_dim=8)
        learner, gradients = (
            step.make_learner(network, method, schedule, 1, torch.device("cpu"), group),
            [],
        )
        for iteration in range(4):
            if iteration == 3 and name == "adele":
                method.corrected_from = 3
            clip = make_batch(source, schedule, 1, iteration, group=group)
            step.take_step(learner, clip, iteration)
            gradients.append(torch.cat([weight.grad.flatten() for weight in learner.weights]))
        torch.save(
            {"gradients": gradients, "state": method.state_dict()}, out / f"{name}-{group.rank}.pt"
        )
