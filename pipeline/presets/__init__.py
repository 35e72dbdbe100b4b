"""Presets: `digits.yaml` is a complete params.yaml with every key explained; the others are overlays.

An overlay names its base in `extends` and contains only what differs:

- Maps in block style are merged key by key, and a key that is missing in the base is an error. Everything else is
  replaced as a whole: numbers, lists, maps in braces, and `recipes` and `detectors`, whose keys each preset chooses.
- A comment at the end of a line replaces the base's; without one, the base's is kept.
- Comment lines above a key are added below the base's. Those above `extends` replace the ones at the top of the base.

The base is edited line by line, at the positions that ruamel.yaml reports. Its own round trip attaches the comment
above a key to the value before it, and would lose that comment when the value is replaced.
"""

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from pipeline.runtime.errors import UserError, like

WHOLE = ("recipes", "detectors")
COLUMN = 28  # of the comments at the end of a line
Edit = tuple[int, int, list[str]]  # first line, line after the last, the lines that replace them


class Preset(NamedTuple):
    """A preset's lines, and one map in them."""

    name: str
    lines: list[str]
    settings: CommentedMap

    def line_of(self, key: str) -> int:
        """The index of the line that a key is in."""
        line: int = self.settings.lc.key(key)[0]
        return line

    def is_block(self, key: str) -> bool:
        """Whether the value of a key is a map in block style."""
        value = self.settings[key]
        return isinstance(value, CommentedMap) and not value.fa.flow_style()

    def inside(self, key: str) -> "Preset":
        """The same lines, and the map at a key."""
        return self._replace(settings=self.settings[key])


def parse(name: str, text: str) -> Preset:
    """A preset's text, which may be an overlay."""
    return Preset(name, text.splitlines(), YAML().load(text))


@cache
def compose(name: str) -> str:
    """The params.yaml of a preset, which needs no other file.

    Raises:
        UserError: an overlay has a key that its base lacks.
    """
    text = (files("pipeline") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    preset = parse(name, text)
    if (base := preset.settings.get("extends")) is None:
        return text
    return merge(parse(base, compose(base)), preset)


def merge(base: Preset, overlay: Preset) -> str:
    """The base's text with the changes of an overlay.

    Raises:
        UserError: the overlay has a key that the base lacks.
    """
    top = base.line_of(next(iter(base.settings)))
    head = overlay.lines[: overlay.line_of("extends")]
    del overlay.settings["extends"]
    lines = list(base.lines)
    for start, stop, new in sorted([(0, top, head), *_edits(base, overlay)], reverse=True):  # bottom up: indices hold
        lines[start:stop] = new
    return "\n".join(lines) + "\n"


def _edits(base: Preset, overlay: Preset, place: str = "") -> Iterator[Edit]:
    for key in overlay.settings:
        at = overlay.line_of(key)
        if key not in base.settings:
            near = like(key, list(base.settings))
            raise UserError(f"preset {overlay.name} line {at + 1}: {place}{key} is missing in {base.name}{near}")
        start = base.line_of(key)
        new = [*_comments_above(overlay.lines, at), _with_comment(overlay.lines[at], base.lines[start])]
        if key not in WHOLE and base.is_block(key) and overlay.is_block(key):
            yield start, start + 1, new
            yield from _edits(base.inside(key), overlay.inside(key), f"{place}{key}.")
        else:
            yield start, _end(base.lines, start), new + overlay.lines[at + 1 : _end(overlay.lines, at)]


def _comments_above(lines: list[str], at: int) -> list[str]:
    start = at
    while start and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    return lines[start:at]


def _end(lines: list[str], start: int) -> int:
    """The index after the last line of a value: lines that are indented more than its key belong to it."""
    end = start + 1
    for i in range(start + 1, len(lines)):
        text = lines[i].lstrip()
        if text and not text.startswith("#"):  # comments and blank lines at the end belong to the next key
            if len(lines[i]) - len(text) <= len(lines[start]) - len(lines[start].lstrip()):
                break
            end = i + 1
    return end


def _with_comment(line: str, other: str) -> str:
    """A line, with the comment of another where it has none."""
    setting, comment = _split(line)
    return f"{setting + '  ':<{COLUMN}}{comment or _split(other)[1]}".rstrip()


def _split(line: str) -> tuple[str, str]:
    """The setting and the comment of a line; " #" in quotes is not supported."""
    setting, *comment = re.split(r"\s+(?=#)", line, maxsplit=1)
    return setting, "".join(comment)
