"""The one exception that users see."""

from collections.abc import Sequence
from difflib import get_close_matches


class UserError(Exception):
    """Bad input, said in one line: what was found, where, what was expected and what to do.

    The command line prints it without a traceback and exits with status 1.
    """


def one_line(error: Exception) -> str:
    """What a library's exception says, without its line breaks."""
    return " ".join(str(error).split())


def like(name: str, known: Sequence[str]) -> str:
    """`, did you mean NAME`, or nothing where none is near."""
    near = get_close_matches(name, known, n=1)
    return f", did you mean {near[0]}" if near else ""
