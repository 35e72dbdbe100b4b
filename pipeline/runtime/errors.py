"""The one exception that users see, and what others' exceptions say, in a line."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class UserError(Exception):
    """Bad input, said in one line: what was found, where, what was expected and what to do.

    The command line prints it without a traceback and exits with status 1.
    """


def one_line(error: Exception) -> str:
    """What a library's exception says, without its line breaks and addresses in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(error).split()))


def first_problem(error: "ValidationError") -> str:
    """The first thing that does not fit a schema: where, and what was expected."""
    problem = error.errors()[0]
    return ": ".join(filter(None, (".".join(map(str, problem["loc"])), problem["msg"])))


def like(name: str, known: Sequence[str]) -> str:
    """`, did you mean NAME`, or nothing where none is near."""
    near = get_close_matches(name, known, n=1)
    return f", did you mean {near[0]}" if near else ""
