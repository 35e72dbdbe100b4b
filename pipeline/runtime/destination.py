"""Where a command writes what a user asked for: nothing that is there is lost.

Stages replace their own outputs (`files.atomic_write`). A path that somebody types may hold anything: it has to be
free, or an empty folder, or, with --force, an earlier output of the same kind, every file of which is known.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.runtime.errors import UserError
from pipeline.runtime.files import is_unwritable, unwritable


@dataclass(frozen=True)
class Kind:
    """A kind of output.

    Attributes:
        name: for messages, such as "outlier dataset".
        is_folder: it is a folder rather than a file.
        strangers: names in what is there, if it is an earlier output of this kind, that this kind does not write, empty
            where there are none; raises UserError or ValueError where it is no such output.
    """

    name: str
    is_folder: bool
    strangers: Callable[[Path], list[str]]

    @property
    def article(self) -> str:
        """For messages."""
        return "an" if self.name[0] in "aeiou" else "a"


@dataclass(frozen=True)
class Destination:
    """A path that a user typed, checked; see `destination`."""

    path: Path
    kind: Kind
    force: bool

    def check(self) -> None:
        """Refuse to write over anything but an earlier output of this kind, and that only with --force.

        Raises:
            UserError: names what is there.
        """
        if not self.path.exists():
            return _check_parent(self.path)
        if self.kind.is_folder and _is_empty_folder(self.path):
            return
        if self.path.is_dir() != self.kind.is_folder:
            found, expected = ("folder", "file") if self.path.is_dir() else ("file", "folder")
            raise UserError(
                f"{self.path}: a {found} that is there already, expected a {expected} to write; name another"
            )
        try:
            strangers = self.kind.strangers(self.path)
        except (UserError, ValueError, OSError):
            what = f"is there already and is not recognised as {self.kind.article} {self.kind.name}"
            raise UserError(f"{self.path}: {what}, so it is not replaced; name another path, or move it away") from None
        if strangers:
            names = ", ".join(strangers[:3]) + (", ..." if len(strangers) > 3 else "")
            raise UserError(
                f"{self.path}: holds files of another origin ({names}); name another path, or move them away"
            )
        if not self.force:
            raise UserError(f"{self.path}: an earlier {self.kind.name} is there; run again with --force to replace it")

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Yield a path to write the file or folder to, which then takes its place; if the body fails nothing changes.

        Raises:
            UserError: the place cannot be written, or something has come to be there meanwhile.
        """
        with ExitStack() as stack:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                beside = tempfile.TemporaryDirectory(dir=self.path.parent, prefix=f".{self.path.name[:50]}.")
                place = Path(stack.enter_context(beside))
            except OSError as error:
                raise unwritable(self.path, error) from None
            try:
                yield place / self.path.name
                self.check()
                _swap(self.path, place / self.path.name, place / "earlier")
            except OSError as error:
                if not is_unwritable(error):
                    raise
                raise unwritable(self.path, error) from None


def _swap(path: Path, new: Path, earlier: Path) -> None:
    """Put what is new at a path, and what was there elsewhere; if that fails, back."""
    there = path.exists()
    if there:
        path.replace(earlier)
    try:
        new.replace(path)
    except BaseException:
        if there:
            earlier.replace(path)
        raise


def destination(typed: Path, kind: Kind, inputs: Iterable[Path] = (), force: bool = False) -> Destination:
    """Check the path of an output before any work.

    Args:
        typed: as the user wrote it; `~` and links are followed.
        kind: of the output.
        inputs: files and folders that are read; the output neither replaces nor contains one of them.
        force: an earlier output of the same kind may be replaced.

    Raises:
        UserError: the path is, or contains, the working folder, the home folder or an input; or it is not free; or
            nothing can be written there.
    """
    path = resolved(typed)
    for kept, what in [(Path.cwd(), "the working folder"), (Path.home(), "your home folder")]:
        if kept.resolve().is_relative_to(path):
            raise UserError(f"{typed}: is {what} or contains it, expected the path of a new {kind.name}; name another")
    for kept in map(resolved, inputs):
        if kept.is_relative_to(path) or (kind.is_folder and path.is_relative_to(kept)):
            raise UserError(f"{typed}: overlaps with {kept}, which is read; name another path")
    found = Destination(path, kind, force)
    try:
        found.check()
    except OSError as error:
        raise unwritable(path, error) from None
    return found


def resolved(typed: Path) -> Path:
    """An absolute path without `..` and links, `~` and `~NAME` being home folders.

    Raises:
        UserError: nobody has that name, or links that lead round in a circle.
    """
    try:
        return typed.expanduser().resolve()
    except (RuntimeError, OSError) as error:
        raise UserError(f"{typed}: leads nowhere ({error}); name another path") from None


def _check_parent(path: Path) -> None:
    """Refuse a path whose folders could not be made."""
    parent = next(folder for folder in path.parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"{path}: cannot be written, for {parent} is not a folder with write permission; name another")


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def others(folder: Path, own: Iterable[str]) -> list[str]:
    """Names in a folder beside those of its own files, sorted."""
    known = set(own)
    return sorted(path.name for path in folder.iterdir() if path.name not in known or not path.is_file())
