"""The processes of one stage: `accelerate launch` starts them, each does its share, the first one writes the result.

Alone, a process is the first one, its share is everything, and it never waits.
"""

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from pipeline.runtime.errors import UserError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
PATIENCE = timedelta(days=7)  # a process that dies takes the others with it: nothing else may end a wait

# This module starts with every command, so torch and accelerate are imported only where they are needed.


def _rank() -> int:
    """This process' number among all, from 0, as the launcher says."""
    return int(os.environ.get("RANK", 0))


def count() -> int:
    """Number of processes, as the launcher says."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_first() -> bool:
    """This process is the one that prints, and writes what is written once."""
    return _rank() == 0


def join() -> None:
    """Meet the other processes: the first thing that each does."""
    if count() > 1:
        import torch
        from accelerate import PartialState

        # accelerate starts no group of processes on processors unless it is told that there is nothing else
        PartialState(cpu=not torch.accelerator.is_available(), timeout=PATIENCE)


def pick_device() -> "torch.device":
    """The device of this process, as accelerate picks it."""
    from accelerate import Accelerator

    return Accelerator().device


def share(items: Sequence[T]) -> Sequence[T]:
    """This process' share of items: every n-th of them, for n processes."""
    return items[_rank() :: count()]


def wait() -> None:
    """Go on when every process has come here."""
    if count() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def leave() -> None:
    """Part from the other processes: the last thing that each does."""
    if count() > 1:
        from accelerate import PartialState

        wait()
        PartialState().destroy_process_group()


def average(values: T) -> T:
    """The mean over all processes of a tensor, or of each tensor of a mapping."""
    if count() == 1:
        return values
    from accelerate.utils import reduce

    return reduce(values, "mean")


def gather(rows: list[T]) -> list[T]:
    """The rows of all processes, in each of them."""
    if count() == 1:
        return rows
    from accelerate.utils import gather_object

    return list(gather_object(rows))


def check_divides(name: str, batch: int) -> None:
    """Refuse a batch that the processes cannot share evenly: their losses could not be averaged.

    Args:
        name: what params.yaml calls it.

    Raises:
        UserError: names it and the number of processes.
    """
    if batch % count():
        raise UserError(f"params.yaml: {name} is {batch}, expected a multiple of the {count()} processes at work")
