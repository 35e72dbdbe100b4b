"""Reads one section of params.yaml and checks it before any work starts.

Each stage declares its own section as a `Section` beside the code that uses it. There are no defaults:
what a run did is all in params.yaml.
"""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from pipeline.errors import UserError

PARAMS = Path("params.yaml")
T = TypeVar("T")


class Section(BaseModel):
    """A section of params.yaml: unknown keys and wrong types are errors, nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _load() -> dict[str, Any]:
    if not PARAMS.is_file():
        raise UserError(
            f"{PARAMS}: not found in {Path.cwd()}; run from the project's folder, "
            "or write one with `penumbra preset digits`"
        )
    try:
        content = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{PARAMS}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{PARAMS}: found {type(content).__name__}, expected a map of sections")
    return content


def _explain(section: str, error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_url=False):
        name = ".".join([section, *map(str, problem["loc"])])
        found = "" if problem["type"] == "missing" else f" (found {problem['input']!r})"
        problems.append(f"{name}: {problem['msg']}{found}")
    return f"{PARAMS}: " + "; ".join(problems)


def read(section: str, schema: type[T]) -> T:
    """Read and check one section, named with dots for a nested one (`recipes.baseline`).

    Args:
        section: name of the section.
        schema: a `Section`, or any type pydantic can check (`int`, `list[int]`).

    Raises:
        UserError: the file or section is missing, a key is missing or unknown, a value has the wrong
            type or is out of range. All problems of the section are named at once.
    """
    value: Any = _load()
    for depth, name in enumerate(names := section.split(".")):
        if not isinstance(value, dict) or name not in value:
            known = ", ".join(map(str, value)) if isinstance(value, dict) else "none"
            parent = ".".join(names[:depth]) or "the file"
            raise UserError(f"{PARAMS}: {section} is missing; {parent} has: {known}")
        value = value[name]
    try:
        return TypeAdapter(schema).validate_python(value, strict=True)
    except ValidationError as error:
        raise UserError(_explain(section, error)) from None
