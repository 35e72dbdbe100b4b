"""The one exception that users see."""


class UserError(Exception):
    """Bad input, said in one line: what was found, where, what was expected and what to do.

    The command line prints it without a traceback and exits with status 1.
    """
