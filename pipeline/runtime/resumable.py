"""Long work in parts that survive a kill and that processes share: finished parts stay on disk until all are used."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.runtime.console import track
from pipeline.runtime.files import atomic_write, sha256
from pipeline.runtime.processes import is_first, share, wait

Part = dict[str, Tensor]  # columns by name, of equal length


def hashes_of(*folders: Path) -> list[str]:
    """SHA-256 of every file of some folders, or of single files: what a result was made from."""
    paths = [path for folder in folders for path in (sorted(folder.rglob("*")) if folder.is_dir() else [folder])]
    return [sha256(path) for path in paths if path.is_file()]


def digest_of(identity: Any) -> str:
    """SHA-256 of JSON: of all that a result is made from, so that it is made again where any of it changes."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


class FinishedParts:
    """Finished parts on disk, in order; one is in memory at a time."""

    def __init__(self, paths: list[Path]):
        self._paths = paths

    def __getitem__(self, i: int) -> Part:
        return load_file(self._paths[i])

    def load(self, i: int, prefix: str) -> Part:
        """The columns of part i whose names begin with a prefix, by the rest of their names; reads no others."""
        with safe_open(self._paths[i], "pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}

    def whole(self) -> Part:
        """The columns of all parts, concatenated."""
        found = [load_file(path) for path in self._paths]
        return {name: torch.cat([part[name] for part in found]) for name in found[0]}


@contextmanager
def resumable(
    folder: Path, identity: Any, count: int, make: Callable[[int], Mapping[str, Tensor]], description: str
) -> Iterator[FinishedParts]:
    """Make parts 0..count-1, or take over those that an earlier run with the same identity finished.

    Every process makes its share, and all of them see all parts. The result is that of an undisturbed run of one
    process if part i depends on the identity and i alone.

    Args:
        folder: where the parts are kept; removed once the body, which makes the stage's result of them, is through.
        identity: JSON that decides the parts (settings, seed, hashes of models); parts of another one are dropped.
        make: computes part i.
    """
    key = digest_of(identity)
    if is_first():
        for stale in folder.glob("*"):
            if stale.name != key:
                shutil.rmtree(stale)
    paths = [folder / key / f"{i:06d}.safetensors" for i in range(count)]
    own = share(range(count))
    for i in track(own, description, len(own)):
        if not paths[i].exists():
            with atomic_write(paths[i]) as partial:
                save_file({name: column.contiguous() for name, column in make(i).items()}, partial)
    wait()
    yield FinishedParts(paths)
    wait()
    if is_first():
        shutil.rmtree(folder, ignore_errors=True)


def ranges(count: int, size: int) -> list[range]:
    """0..count-1 in consecutive pieces of up to `size`."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]
