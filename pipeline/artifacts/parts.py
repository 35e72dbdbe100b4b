"""Long work in parts that survive a kill: each finished part stays on disk until all are done."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.artifacts.files import replacing


def resumable(folder: Path, identity: Any, count: int, make: Callable[[int], Tensor]) -> Iterator[Tensor]:
    """Make parts 0..count-1, or take over those that an earlier run with the same identity finished.

    The result is that of an undisturbed run if part i depends on the identity and i alone.

    Args:
        folder: where the parts are kept; removed once the last part was taken.
        identity: JSON that decides the parts (settings, seed, hashes of models); parts of another one are dropped.
        make: computes part i, a float tensor.
    """
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    for stale in folder.glob("*"):
        if stale.name != key:
            shutil.rmtree(stale)
    for i in range(count):
        path = folder / key / f"{i:06d}.safetensors"
        if not path.exists():
            with replacing(path) as partial:
                save_file({"part": make(i).contiguous()}, partial)
        yield load_file(path)["part"]
    shutil.rmtree(folder, ignore_errors=True)
