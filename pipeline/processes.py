"""The processes of one stage: `accelerate launch` starts them, each does its share, the first one writes the result.

Alone, a process is the first one, its share is everything, and it never waits.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from pipeline.errors import UserError

T = TypeVar("T")
PATIENCE = timedelta(days=7)  # a process that dies takes the others with it: nothing else may end a wait


def _state() -> PartialState:
    # accelerate starts no group of processes on processors unless it is told that there is nothing else
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=PATIENCE)


def is_first() -> bool:
    """This process is the one that prints, and writes what is written once."""
    return bool(_state().is_main_process)


def count() -> int:
    """Number of processes."""
    return int(_state().num_processes)


def share(items: Sequence[T]) -> Sequence[T]:
    """This process' share of items: every n-th of them, for n processes."""
    return items[_state().process_index :: count()]


def wait() -> None:
    """Go on when every process has come here."""
    _state().wait_for_everyone()


def leave() -> None:
    """Part from the other processes: the last thing that each does."""
    wait()
    _state().destroy_process_group()


def gather(rows: list[T]) -> list[T]:
    """The rows of all processes, in each of them."""
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
