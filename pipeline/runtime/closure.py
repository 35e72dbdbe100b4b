"""The code that a module stands on: every module of the project that it imports, directly or not."""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from pipeline.runtime.files import sha256

ROOT = Path(__file__).parents[2]
WITHOUT_EFFECT = {ROOT / f"pipeline/runtime/{name}.py" for name in ("console", "errors", "processes", "timings")}


@cache
def imported(module: Path) -> frozenset[Path]:
    """The project's modules that a module imports, wherever in it."""
    names: list[str] = []
    for node in _executed(ast.parse(module.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return frozenset(filter(None, (file_of(name) for name in names if name.startswith("pipeline."))))


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those that type checkers alone look at."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            yield node
            yield from _executed(node)


def file_of(name: str) -> Path | None:
    """The file of one of the project's modules or packages."""
    path = ROOT / name.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def closure(*modules: str) -> frozenset[Path]:
    """The files of some modules, by their dotted names, and of all that they import, with an effect on outputs."""
    seen: set[Path] = set()
    left = {path for path in map(file_of, modules) if path}
    while left:
        seen.add(module := left.pop())
        left |= imported(module) - seen
    return frozenset(seen - WITHOUT_EFFECT)


def digest(paths: Iterable[Path]) -> str:
    """SHA-256 of the names and contents of some of the project's files."""
    lines = [f"{path.relative_to(ROOT).as_posix()} {sha256(path)}" for path in sorted(paths)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def code_of(*modules: str) -> str:
    """SHA-256 of the code that some modules stand on."""
    return digest(closure(*modules))
