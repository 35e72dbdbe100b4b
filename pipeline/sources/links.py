"""Folders that links lead to, each entered once."""

from pathlib import Path


class Entered:
    """Notes which folders below a folder were entered: a link up, or to one that was, would lead round in a circle."""

    def __init__(self, folder: Path):
        above = (folder, *folder.absolute().parents, *folder.resolve().parents)
        self._known = set(map(_identity, above))

    def __call__(self, folder: Path) -> bool:
        """Whether a folder was entered already; from now on it was."""
        again = (identity := _identity(folder)) in self._known
        self._known.add(identity)
        return again


def _identity(folder: Path) -> tuple[int, int]:
    about = folder.stat()
    return about.st_dev, about.st_ino
