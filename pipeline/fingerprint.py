"""Notice what changed: the code of each stage, and the files outside of the project that params.yaml names.

Reads: the modules of every stage, and names, sizes and times of the files under the paths of params.yaml.
Writes: data/fingerprints/STAGE.json, which STAGE depends on.
Why: DVC sees what dvc.yaml lists. This stage always runs, takes a second, and its outputs change where a stage has to
run again: after an edit of a module that it imports, or a new photograph.
"""

import ast
import glob
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from pipeline import STAGES
from pipeline.runtime.console import say
from pipeline.runtime.files import read_json, replacing, sha256, write_json
from pipeline.runtime.layout import FINGERPRINTS
from pipeline.settings import params
from pipeline.sources.links import Entered

ROOT = Path(__file__).parent.parent
WITHOUT_EFFECT = {ROOT / f"pipeline/runtime/{name}.py" for name in ("console", "errors", "processes", "timings")}
DATA = {"prepare": "benchmarks", "report": "reporting"}  # folders of files that are no modules
WATCHED = {  # keys of params.yaml under which paths stand
    "prepare": [f"prepare.folder.{key}" for key in ("id", "near", "far", "val_near", "val_far")] + ["prepare.root"],
    "autoencoder": ["autoencoder.source"],
    "teacher": ["teacher.weights"],
    "embedding": ["embedding.generator"],
}


@cache
def imported(module: Path) -> frozenset[Path]:
    """The project's modules that a module imports, wherever in it."""
    names: list[str] = []
    for node in ast.walk(ast.parse(module.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    paths = {ROOT / (name.replace(".", "/") + ".py") for name in names if name.startswith("pipeline.")}
    return frozenset(path for path in paths if path.is_file())


def closure(stage: str) -> list[Path]:
    """Every file of the project that has an effect on a stage's outputs, sorted."""
    seen: set[Path] = set()
    left = {ROOT / f"pipeline/{stage}.py"}
    while left:
        seen.add(module := left.pop())
        left |= imported(module) - seen
    data = (ROOT / "pipeline" / DATA[stage]).iterdir() if stage in DATA else []
    return sorted((seen - WITHOUT_EFFECT) | {path for path in data if path.suffix not in (".py", "")})


def code(stage: str) -> str:
    """SHA-256 of the names and contents of a stage's files."""
    lines = [f"{path.relative_to(ROOT).as_posix()} {sha256(path)}" for path in closure(stage)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def named(content: dict[str, Any], key: str) -> Iterator[str]:
    """The paths that stand under a key of params.yaml, in a map under it or a list; none where it is not there."""
    value: Any = content
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    for item in value.values() if isinstance(value, dict) else [value]:
        if isinstance(item, str):
            with suppress(ValueError):  # nobody's home folder: `check` says so
                yield params.at_home(item)


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
        last: what the last run found. It stands where a path is not there: who scores again has the outputs, not the
            photographs that they were made of.
    """
    lines = []
    for key in WATCHED.get(stage, []):
        for path in named(content, key):
            places = found_at(path)
            lines += [line for place in places for line in (f"{key} {place}", *listing(Path(place)))]
            if not places and key.startswith("prepare."):
                if last is not None:
                    say(f"fingerprint: {path} ({key}) is not there; what was made of it is taken as it is")
                return last
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest() if lines else None


def main() -> None:
    content, _ = params.load()
    for stage in STAGES[1:]:
        path = FINGERPRINTS / f"{stage}.json"
        last = read_json(path) if path.is_file() else {}
        found = {"code": code(stage), "files": watched(content, stage, last.get("files"))}
        if found != last:
            with replacing(path) as partial:
                write_json(partial, found)
