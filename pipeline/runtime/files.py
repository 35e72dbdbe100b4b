"""Atomic writes, hashes and JSON: the ground that every artefact stands on."""

import errno
import hashlib
import json
import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from pipeline.runtime.console import log
from pipeline.runtime.errors import UserError
from pipeline.runtime.layout import OWN, TIMINGS
from pipeline.runtime.processes import is_first, wait

UNWRITABLE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOTDIR, errno.EEXIST,
}  # fmt: skip


def _is_own(path: Path) -> bool:
    """Whether a path lies under the folders that stages write; a link counts where it is, not where it leads."""
    place = path.parent.resolve() / path.name
    roots = [root for own in OWN for root in (Path.cwd() / own, own.resolve())]  # `data` itself may be a link
    return any(place.is_relative_to(root) for root in roots)


def _remove(path: Path, target: Path) -> None:
    """Remove a file, a link, or, where the target is the pipeline's own, a folder.

    Raises:
        UserError: a folder elsewhere, which may hold anybody's files.
    """
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
    elif _is_own(target):
        shutil.rmtree(path)
    else:
        names = ", ".join(map(str, OWN))
        raise UserError(f"{path}: a folder outside of {names}, which is never removed; name a path that is free")


def _remove_quietly(path: Path, target: Path) -> None:
    with suppress(OSError, UserError):  # the failure that brought us here is the one to report
        _remove(path, target)


def is_unwritable(error: Exception) -> bool:
    """The place is to blame, not the code; safetensors has no error number."""
    return error.errno in UNWRITABLE if isinstance(error, OSError) else "I/O error" in str(error)


def unwritable(place: Path, error: Exception) -> UserError:
    """What is said of a file or folder that could not be written."""
    return UserError(f"{place}: cannot be written ({error}); free space or fix the permissions")


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write a file or folder to; rename it to `target` at the end.

    For the outputs of stages, under `layout.OWN`: what is at `target` goes. A path that a user types is for
    `destination.Destination`. If the body fails nothing of `target` changes and what was written is removed.

    Raises:
        UserError: the place cannot be written (permissions, full disk), or `target` is a folder elsewhere.
    """
    partial = _partial(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial, target)
        yield partial
        if target.is_dir() or partial.is_dir():  # a file takes a file's place in one step
            _remove(target, target)
        partial.replace(target)
    except (OSError, SafetensorError) as error:
        _remove_quietly(partial, target)
        if not is_unwritable(error):
            raise
        raise unwritable(target, error) from None
    except BaseException:
        _remove_quietly(partial, target)
        raise


def make_nothing(targets: Collection[Path], why: str) -> None:
    """The empty folders and JSON files of a stage whose work nothing needs, and a line that says so."""
    for target in targets if is_first() else ():
        with atomic_write(target) as path:
            write_json(path, {}) if target.suffix == ".json" else path.mkdir()
    log(f"{why}; nothing to do")


@contextmanager
def atomic_write_together(target: Path) -> Iterator[Path]:
    """As `atomic_write`, for a folder that all processes of a stage write their own files to; yields it empty."""
    with ExitStack() as stack:
        if is_first():
            stack.enter_context(atomic_write(target)).mkdir()
        wait()
        yield _partial(target)
        wait()
    wait()  # only now is the result safe


def remove_others(root: Path, named: Collection[str]) -> None:
    """Remove what is under a stage's folder and is no more one of its results, as after a kill or a change of settings.

    Args:
        root: a folder under `layout.OWN`.
        named: the results, PARENT/NAME, relative to it.
    """
    parents = {name.partition("/")[0] for name in named}
    for path in [*root.glob("*/*"), *root.glob("*")]:
        if path.relative_to(root).as_posix() not in {*named, *parents}:
            _remove(path, path)


@contextmanager
def stage_lock(name: str) -> Iterator[None]:
    """Hold a lock of this checkout, so that two runs of a stage do not write over each other.

    Raises:
        UserError: another run holds it, or its file cannot be written.
    """
    path = TIMINGS.parent / f".{name.replace('/', '-')}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{name}: another run of it is at work in {Path.cwd()}; wait for its end, or stop it") from None
    except OSError as error:
        raise unwritable(path, error) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes. A process reads a file once, unless it changes: many results are made from it."""
    about = path.stat()
    return _sha256(path.absolute(), about.st_ino, about.st_mtime_ns, about.st_size)


@cache
def _sha256(path: Path, *state: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write JSON with a fixed layout, so that equal content is equal bytes. NaN is refused."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run the stage that writes it, or `dvc pull`") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name the folder that holds it") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); get the file again") from None


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        UserError: as `read_json`, or it holds something else.
    """
    if not isinstance(content := read_json(path), dict):
        raise UserError(f"{path}: found {type(content).__name__}, expected a JSON object; get the file again")
    return content
