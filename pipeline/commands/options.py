"""Arguments and options that several commands take."""

import os
from pathlib import Path
from typing import Annotated

import typer


def at_home(path: str) -> str:
    """`~` as a shell expands it, which it does not behind `=` or in quotes."""
    return os.path.expanduser(path)  # noqa: PTH111  which leaves a name alone that is nobody's


def as_path(path: str) -> Path:
    """A path, `~` expanded."""
    return Path(at_home(path))


Force = Annotated[bool, typer.Option("--force", help="replace an earlier output of the same kind")]
