"""Check params.yaml, and notice what changed: the code of each stage, and the files outside of the project.

Reads: params.yaml, the modules of every stage, and names, sizes and times of the files under the paths of params.yaml.
Writes: data/fingerprints/STAGE.json, which STAGE depends on.
Why: DVC sees what dvc.yaml lists. This stage always runs, takes a second, and its outputs change where a stage has to
run again: after an edit of a module that it imports, or a new photograph.
"""

import glob
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline import STAGES, methods
from pipeline.runtime.closure import ROOT, closure, digest
from pipeline.runtime.console import log
from pipeline.runtime.files import atomic_write, read_json, write_json
from pipeline.runtime.layout import FINGERPRINTS
from pipeline.settings import params
from pipeline.settings.check import check_params
from pipeline.settings.methods import Pools, bases
from pipeline.settings.needs import is_needed
from pipeline.settings.section import at_home
from pipeline.sources.links import Entered

DATA = {"prepare": "benchmarks", "report": "reporting"}  # folders of files that are no modules
WATCHED = {  # keys of params.yaml under which paths are
    "prepare": [f"prepare.folder.{key}" for key in ("id", "near", "far", "val_near", "val_far", "unknown")]
    + ["prepare.root"],
    "autoencoder": ["autoencoder.source"],
    "teacher": ["teacher.weights"],
    "features": ["train.weights"],
    "train": ["train.weights"],
    "sample": ["sample.embedding.generator"],
}


def code(stage: str, drawn: list[str]) -> list[Path]:
    """Every file of the project that has an effect on a stage's outputs.

    Args:
        drawn: the methods that are named: the others have none on `sample`.
    """
    modules = [f"pipeline.{stage}", *(methods.module_of(name) for name in drawn if stage == "sample")]
    data = (ROOT / "pipeline" / DATA[stage]).iterdir() if stage in DATA else []
    return sorted(closure(*modules) | {path for path in data if path.suffix not in (".py", "")})


def named(content: dict[str, Any], key: str) -> Iterator[str]:
    """The paths under a key of params.yaml, in a map under it or a list; none where it is not there."""
    value: Any = content
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    for item in value.values() if isinstance(value, dict) else [value]:
        if isinstance(item, str):
            with suppress(ValueError):  # nobody's home folder: `check` says so
                yield at_home(item)


def listing(path: Path) -> list[str]:
    """Name, size and time of a file, or of every file of a folder and below; links are followed as `walk` does."""
    if path.is_file():
        return [_line(path, path.name)]
    lines, entered = [], Entered(path)
    for folder, below, names in os.walk(path, followlinks=True):
        below[:] = [name for name in sorted(below) if name[0] != "." and not entered(Path(folder, name))]
        names = [name for name in names if name[0] != "."]
        lines += [_line(Path(folder, name), os.path.relpath(Path(folder, name), path)) for name in sorted(names)]
    return lines


def _line(path: Path, name: str) -> str:
    try:
        about = path.stat()
    except OSError:  # a link that leads nowhere
        return name
    return f"{name} {about.st_size} {about.st_mtime_ns}"


def found_at(path: str) -> list[str]:
    """A path that is there, or what a glob finds; nothing where it cannot be looked at."""
    try:
        return [path] if Path(path).exists() else sorted(glob.glob(path, recursive=True))  # noqa: PTH207
    except OSError:
        return []


def watched(content: dict[str, Any], stage: str, last: str | None) -> str | None:
    """SHA-256 of the listings of what params.yaml names for a stage; None where it names no local path.

    Args:
        last: what the last run found. It is kept where a path is not there: who scores again has the outputs, not the
            photographs that they were made of.
    """
    lines = []
    for key in WATCHED.get(stage, []):
        for path in named(content, key):
            places = found_at(path)
            lines += [line for place in places for line in (f"{key} {place}", *listing(Path(place)))]
            if not places and key.startswith("prepare."):
                if last is not None:
                    log(f"fingerprint: {path} ({key}) is not there; what was made of it is taken as it is")
                return last
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest() if lines else None


def fingerprint(stage: str, drawn: list[str], last: dict[str, Any]) -> dict[str, Any]:
    """What a stage depends on besides its inputs; of no importance where nothing needs what it makes."""
    if not is_needed(stage):
        return {"needed": False}
    content, _ = params.load()
    return {"code": digest(code(stage, drawn)), "files": watched(content, stage, last.get("files"))}


def main() -> None:
    check_params()
    drawn = bases(params.read("methods", Pools))
    for stage in STAGES[1:]:
        path = FINGERPRINTS / f"{stage}.json"
        last = read_json(path) if path.is_file() else {}
        found = fingerprint(stage, drawn, last)
        if found != last:
            with atomic_write(path) as partial:
                write_json(partial, found)
