"""The one exception that users see."""


class UserError(Exception):
    """Bad input, said in one line: what was found, where, what was expected and what to do.

    The command line prints it without a traceback and exits with status 1.
    """


def one_line(error: Exception) -> str:
    """What a library's exception says, without its line breaks."""
    return " ".join(str(error).split())
