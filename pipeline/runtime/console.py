"""What a person sees while a stage runs: one line a fact, a progress bar with the time left; of the first process."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pipeline.runtime.processes import is_first

T = TypeVar("T")
PLAIN_INTERVAL = 5.0  # seconds between progress lines where there is no terminal
_shown = threading.Lock()  # held by the loop that is shown


def log(message: str) -> None:
    """Print one line, flushed, so that it appears in order with a child process's lines."""
    if is_first():
        print(message, flush=True)


def printable(name: str | Path) -> str:
    """A file's name, or text that holds some, as valid Unicode: bytes that are no UTF-8 are written as \\xNN."""
    return str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield `items` unchanged, showing how many of `total` are done and the time left.

    A bar on a terminal; elsewhere a plain line every 5 seconds, so that logs stay readable. Of loops within each other
    the outermost is shown, for the time left is that of the whole; a loop of one item says nothing and is not.
    """
    if total < 2 or not _shown.acquire(blocking=False):
        yield from items
        return
    try:
        yield from (_bar if sys.stdout.isatty() else _plain)(items, description, total)
    finally:
        _shown.release()


def _bar(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    from rich.console import Console  # here, for most processes write to no terminal
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stdout)) as progress:
        yield from progress.track(items, total=total, description=description)


def _plain(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    start = shown = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - shown >= PLAIN_INTERVAL:  # nothing is known of the pace before the first is done
            left = (now - start) / done * (total - done)
            log(f"{description}: {done}/{total}, about {left:.0f} s left")
            shown = now
        yield item
