"""Long work in parts that survive a kill: each finished part stays on disk until all are done."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.artifacts.files import replacing, sha256
from pipeline.console import track

Part = dict[str, Tensor]  # columns by name, of equal length


def fingerprint(*folders: Path) -> list[str]:
    """SHA-256 of every file of some folders, or of single files: what a part was made from."""
    paths = [path for folder in folders for path in (sorted(folder.rglob("*")) if folder.is_dir() else [folder])]
    return [sha256(path) for path in paths if path.is_file()]


def resumable(
    folder: Path, identity: Any, count: int, make: Callable[[int], Part], keep: bool = False
) -> Iterator[Part]:
    """Make parts 0..count-1, or take over those that an earlier run with the same identity finished.

    The result is that of an undisturbed run if part i depends on the identity and i alone.

    Args:
        folder: where the parts are kept; removed once the last part was taken, unless `keep`.
        identity: JSON that decides the parts (settings, seed, hashes of models); parts of another one are dropped.
        make: computes part i.
    """
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    for stale in folder.glob("*"):
        if stale.name != key:
            shutil.rmtree(stale)
    for i in range(count):
        path = folder / key / f"{i:06d}.safetensors"
        if not path.exists():
            with replacing(path) as partial:
                save_file({name: column.contiguous() for name, column in make(i).items()}, partial)
        yield load_file(path)
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)


def in_parts(
    folder: Path,
    identity: Any,
    count: int,
    batch: int,
    make: Callable[[range], Part],
    description: str,
    keep: bool = False,
) -> Part:
    """Columns of items 0..count-1, made `batch` at a time with a progress bar; a killed run goes on where it was.

    Args:
        make: columns of consecutive items; item i depends on the identity and i alone.
        keep: leave the parts on disk, for a caller whose own result is not safe yet and who removes them then.
    """
    pieces = [range(start, min(start + batch, count)) for start in range(0, count, batch)]
    parts = resumable(folder, identity, len(pieces), lambda i: make(pieces[i]), keep)
    found = list(track(parts, description, len(pieces)))
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}
