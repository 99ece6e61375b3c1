"""What processes of a group do in tests; a module of its own, since they import it by name."""

import os
import signal
import time

from noisyvos.errors import UserError
from noisyvos.training import loop, task


def train_with_signal(number: int, to_parent: bool, *arguments) -> None:
    """Train as a stage does; in iteration 1 the last process sends signal `number` to its parent or to itself."""
    take_step = loop.take_step

    def step(learner, clip, iteration, group):
        if iteration == 1:
            if group.rank == group.size - 1:
                os.kill(os.getppid() if to_parent else os.getpid(), number)
            time.sleep(0.5)  # time for the signal to reach all
        return take_step(learner, clip, iteration, group)

    loop.take_step = step
    try:
        task._train(*arguments)
    finally:
        loop.take_step = take_step


def refuse(group) -> None:
    """Meet an error in one process while the other waits for it."""
    if group.rank == 1:
        raise UserError("The second process does not like its labels.")
    group.sums([1.0])


def saved_by_term(*arguments) -> None:
    train_with_signal(signal.SIGTERM, True, *arguments)


def killed(*arguments) -> None:
    train_with_signal(signal.SIGKILL, False, *arguments)
