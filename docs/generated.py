"""Pages of the site that are made from what they describe: a hook of MkDocs."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel
from typer.cli import get_docs_for_click

from pipeline import PUBLIC
from pipeline.__main__ import app
from pipeline.presets import compose
from pipeline.settings.check import SECTIONS

ROOT = Path(__file__).parents[1]
OWN = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CITATION.cff", "LICENSE")  # files of the repository
KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w-]+):[^#]*(?:#\s*(?P<comment>.*))?$")
Comments = dict[tuple[str, ...], str]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    pages = {name: (ROOT / name).read_text(encoding="utf-8") for name in OWN} | {
        "index.md": (ROOT / "README.md").read_text(encoding="utf-8"),
        "reference/settings.md": settings(),
        "reference/commands.md": commands(),
        "reference/python.md": python(),
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text.replace("](docs/", "](")))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """In the site, what lies beside docs/ lies in it."""
    return markdown if "/" in page.file.src_uri else markdown.replace("](../", "](")


def settings() -> str:
    """Every key of params.yaml: its type from the settings, its value and comment from the preset `digits`."""
    text = compose("digits")
    values, comments = yaml.safe_load(text), dict(_comments(text))
    parts = [
        "# Settings\n\nEvery section of `params.yaml`, with the values of the preset `digits`. `penumbra check` names "
        "every key that is unknown, missing or out of range, with its line.\n"
    ]
    for name, kind in SECTIONS.items():
        parts.append(f"## {name}\n\n{comments.get((name,), '')}\n")
        models = list(_models(kind))
        if models == [kind]:
            parts += _section(kind, values[name], comments, (name,))
        else:
            parts.append(f"```yaml\n{_block(text, name)}\n```\n")
            for model in models:
                parts += [f"### {_words(model)}\n", *_section(model, {}, comments, (name,))]
    return "\n".join(parts)


def _section(kind: type[BaseModel], values: Any, comments: Comments, at: tuple[str, ...]) -> Iterator[str]:
    """A table of a section's keys, then those of the sections in it."""
    yield f"{_docstring(kind)}\n"
    fields = {about.alias or name: about for name, about in kind.model_fields.items()}
    if fields:
        yield "| key | type | in `digits` | |\n| --- | --- | --- | --- |"
    for key, about in fields.items():
        value = (values or {}).get(key, "")
        shown = (
            "below"
            if isinstance(value, dict) and value
            else yaml.safe_dump(value, default_flow_style=True).splitlines()[0]
        )
        comment = comments.get((*at, key), "")
        yield f"| `{key}` | {_type(about.annotation)} | {f'`{shown}`' if value != '' else ''} | {comment} |"
    yield ""
    for key, about in fields.items():
        models = list(_models(about.annotation))
        for model in models:
            which = f": {_words(model)}" if len(models) > 1 else ""
            yield f"### {'.'.join((*at, key))}{which}\n"
            own = (values or {}).get(key)
            yield from _section(model, own if isinstance(own, dict) else {}, comments, (*at, key))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a type consists of."""
    if inspect.isclass(annotation) and not get_args(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _type(annotation: Any) -> str:
    """A type in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(parts[0])
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin in (Union, UnionType):
        return " or ".join(_type(part) for part in parts)
    if origin in (list, dict):
        return f"{'list of' if origin is list else 'map to'} {_type(parts[-1])}"
    if annotation in (None, type(None)):
        return "`null`"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "section"
    return {str: "text", int: "whole number", float: "number", bool: "`true`, `false`"}.get(annotation, "anything")


def _words(kind: type[BaseModel]) -> str:
    """The name of a class in words: OutlierExposure as outlier exposure."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", kind.__name__).lower()


def _docstring(kind: type[BaseModel]) -> str:
    """A docstring whose attributes are a list."""
    text, _, attributes = (inspect.getdoc(kind) or "").partition("\n\nAttributes:\n")
    return f"{text}\n\n" + re.sub(r"^    (\w[\w, ]*):", r"- `\1`:", attributes, flags=re.MULTILINE)


def _comments(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """The comment at the end of every key's line, by the key's place."""
    place: list[str] = []
    for line in text.splitlines():
        if found := KEY.match(line):
            place = [*place[: len(found["indent"]) // 2], found["key"]]
            if found["comment"]:
                yield tuple(place), found["comment"].replace("|", "\\|")


def _block(text: str, section: str) -> str:
    """The lines of a section."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{section}:"))
    stop = next((i for i in range(start + 1, len(lines)) if re.match(r"\S", lines[i])), len(lines))
    return "\n".join(lines[start:stop]).rstrip()


def commands() -> str:
    """Every command, as `--help` has it."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="penumbra")
    return get_docs_for_click(obj=command, ctx=context, name="penumbra", title="Commands")


def python() -> str:
    """What `from pipeline import ...` offers."""
    head = "# Python\n\nWhat model cards and notebooks import: `from pipeline import " + ", ".join(PUBLIC) + "`.\n"
    return "\n".join([head, *(f"::: {module}.{name}\n" for name, module in PUBLIC.items())])
