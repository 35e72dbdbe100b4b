"""Reads one section of params.yaml and checks it before any work starts.

The sections are in the modules beside this one. There are no defaults: what a run did is all in params.yaml. `check.py`
checks the whole file at once.
"""

from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pipeline.runtime.errors import UserError, like

PARAMS = Path("params.yaml")
LARGEST = 1_000_000  # bytes of a params.yaml: far more than anyone writes
DEEPEST = 20  # levels of nesting, likewise
MOST = 100_000  # values, those behind aliases counted as often as they are named
T = TypeVar("T")
Place = tuple[str | int, ...]  # keys that lead to a value


class _Shallow(Composer):
    """Refuses deep nesting as soon as it is met: thousands of brackets would take seconds."""

    level = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.level += 1
        if self.level > DEEPEST:
            line = self.parser.peek_event().start_mark.line + 1
            raise UserError(f"{PARAMS} line {line}: more than {DEEPEST} levels deep; make it flatter")
        node = super().compose_node(parent, index)
        self.level -= 1
        return node


def _note_lines(node: Node, place: Place, lines: dict[Place, int]) -> None:
    """Add the line of every value to `lines`; of a value in a map, the line of its key.

    Raises:
        UserError: a key is there twice or is not a scalar, or aliases of aliases grow without end.
    """
    line = lines.setdefault(place, node.start_mark.line + 1)
    if len(lines) > MOST or len(place) > DEEPEST:
        raise UserError(f"{PARAMS} line {line}: aliases of aliases; write the values out")
    if isinstance(node, SequenceNode):
        for i, item in enumerate(node.value):
            _note_lines(item, (*place, i), lines)
    if isinstance(node, MappingNode):
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                raise UserError(f"{PARAMS} line {line}: a key that is a list or a map; expected a name")
            inner = (*place, key.value)
            if inner in lines:
                name = ".".join(map(str, inner))
                raise UserError(f"{PARAMS} line {line}: {name} is in line {lines[inner]} already; remove one")
            lines[inner] = line
            _note_lines(value, inner, lines)


@lru_cache(maxsize=1)  # a stage reads several sections
def _parse(text: str) -> tuple[Any, dict[Place, int]]:
    """The content of a text, read as YAML 1.2 by the loader that DVC uses, and the line of each value.

    Raises:
        UserError: it is nested too deeply, has a key twice, or expands without end.
        YAMLError, ValueError, LookupError: it is not valid YAML.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _Shallow
    node = yaml.compose(text)
    if node is None:
        return None, {}
    lines: dict[Place, int] = {}
    _note_lines(node, (), lines)
    return yaml.constructor.construct_document(node), lines


def load() -> tuple[dict[str, Any], dict[Place, int]]:
    """The file's content, and the line of each value; calls share them, so do not change them.

    Raises:
        UserError: there is no such file, or it is not a map of sections; names the line.
    """
    if not PARAMS.is_file():
        raise UserError(
            f"{PARAMS}: not found in {Path.cwd()}; run from the project's folder, "
            "or write one with `penumbra preset digits`"
        )
    if (size := PARAMS.stat().st_size) > LARGEST:
        raise UserError(f"{PARAMS}: {size} bytes, expected at most {LARGEST}; write one with `penumbra preset digits`")
    try:
        content, lines = _parse(PARAMS.read_text(encoding="utf-8"))
    except (YAMLError, ValueError, LookupError) as error:  # `!!bool x` is a KeyError of ruamel.yaml
        raise UserError(f"{PARAMS}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{PARAMS}: found {type(content).__name__}, expected a map of sections")
    return content, lines


def as_text() -> str:
    """The file's content as YAML of one value per line, without comments.

    Raises:
        UserError: as `load`.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.representer.sort_base_mapping_type_on_output = False
    stream = StringIO()
    yaml.dump(load()[0], stream)
    return stream.getvalue()


def at(lines: dict[Place, int], place: Place) -> str:
    """`params.yaml line 7: section.key`; the line of what holds a key that is missing."""
    known: Place = ()
    for part in place:  # pydantic names the kinds of a union too, which stand nowhere in the file
        known = (*known, part) if (*known, part) in lines else known
    line = f" line {lines[known]}" if known else ""
    return f"{PARAMS}{line}: {'.'.join(map(str, place))}"


def _names(schema: Any) -> list[str]:
    """The keys that a JSON schema knows, at any depth."""
    if isinstance(schema, list):
        return [name for part in schema for name in _names(part)]
    if not isinstance(schema, dict):
        return []
    return [*schema.get("properties", {}), *(name for part in schema.values() for name in _names(part))]


def checked(place: Place, value: Any, schema: Any, lines: dict[Place, int]) -> tuple[Any, list[str]]:
    """A value that stands at a place, as its schema has it, and what is wrong with it, one line each; else None.

    Args:
        schema: a `Section`, or any type pydantic can check (`int`, `list[int]`).
    """
    adapter: TypeAdapter[Any] = TypeAdapter(schema)
    try:
        return adapter.validate_python(value, strict=True), []
    except ValidationError as error:
        return None, [_explain(place, found, adapter, lines) for found in error.errors(include_url=False)]


def _explain(place: Place, problem: Any, adapter: TypeAdapter[Any], lines: dict[Place, int]) -> str:
    where = (*place, *problem["loc"])
    if problem["type"] == "missing":
        return f"{at(lines, where)}: is missing; add it"
    if problem["type"] == "extra_forbidden":
        known = [name for name in _names(adapter.json_schema()) if name != where[-1]]  # it may be known elsewhere
        return f"{at(lines, where)}: unknown{like(str(where[-1]), known)}"
    said = problem["msg"].removeprefix("Value error, ")
    value = "" if isinstance(problem["input"], dict) else f" (found {problem['input']!r})"
    return f"{at(lines, where)}: {said}{value}"


def read(section: str, schema: type[T]) -> T:
    """Read and check one section, named with dots for a nested one (`recipes.baseline`).

    Args:
        section: name of the section.
        schema: a `Section`, or any type pydantic can check (`int`, `list[int]`).

    Raises:
        UserError: the file or section is missing, a key is missing or unknown, a value has the wrong
            type or is out of range. All problems of the section are named at once, with their lines.
    """
    value, lines = load()
    for depth, name in enumerate(names := section.split(".")):
        if not isinstance(value, dict) or name not in value:
            known = ", ".join(map(str, value)) if isinstance(value, dict) else "none"
            parent = ".".join(names[:depth]) or "the file"
            raise UserError(f"{PARAMS}: {section} is missing; {parent} has: {known}")
        value = value[name]
    own, wrong = checked(tuple(names), value, schema, lines)
    if wrong:
        raise UserError("; ".join(wrong))
    return own
