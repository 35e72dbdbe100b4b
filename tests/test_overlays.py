"""Presets as overlays: a written params.yaml has the base's comments, the overlay's values, and needs no other file."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import parse_yaml

from pipeline.__main__ import PRESETS
from pipeline.presets import WHOLE, compose, merge, parse
from pipeline.runtime.errors import UserError
from pipeline.settings import params
from tests.conftest import ROOT

OVERLAYS = [name for name in PRESETS if name != "digits"]

BASE = """\
# The base.
# It has two lines.
seed: 0                     # of everything

# what is trained
model:                      # one map
  # the layers
  widths: [8, 16]           # channels
  steps: 10                 # steps
  source: null

# the terms
recipes:
  plain: {}                 # no term
  long:
    head: {kind: cosine}

score:
  # the names
  detectors:
    msp: {}
    knn: {k: 5}
  # the draws
  resamples: 100            # draws
"""
OVERLAY = """\
# The overlay.
extends: base

score:                      # last first
  resamples: 7
  detectors: {msp: {}}

# and which
recipes:
  # a group
  other: {}                 # another

model:
  source:                   # a map now
    id: a                   # its name
  # wide
  widths:
    - 32
    - 64

  steps: 1000000000000000000  # many
"""
MERGED = """\
# The overlay.
seed: 0                     # of everything

# what is trained
model:                      # one map
  # the layers
  # wide
  widths:                   # channels
    - 32
    - 64
  steps: 1000000000000000000  # many
  source:                   # a map now
    id: a                   # its name

# the terms
# and which
recipes:
  # a group
  other: {}                 # another

score:                      # last first
  # the names
  detectors: {msp: {}}
  # the draws
  resamples: 7              # draws
"""


def merged(overlay: str) -> str:
    return merge(parse("base", BASE), parse("mine", overlay))


def test_an_example() -> None:
    assert merged(OVERLAY) == MERGED


def test_an_overlay_that_changes_nothing_leaves_the_text_as_it_is() -> None:
    assert merged(f"{BASE.splitlines()[0]}\n{BASE.splitlines()[1]}\nextends: base\n") == BASE
    assert merged("extends: base\nmodel:\n  steps: 10\n") == BASE.split("\n", 2)[2]


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ("extends: base\nmodle:\n  steps: 1\n", "preset mine line 2: modle is missing in base, did you mean model"),
        ("extends: base\nmodel:\n  step: 1\n", "preset mine line 3: model.step is missing in base, did you mean steps"),
        ("extends: base\nmodel:\n  xyzzy: 1\n", "preset mine line 3: model.xyzzy is missing in base"),
    ],
)
def test_a_key_that_the_base_lacks_is_named(overlay: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        merged(overlay)
    assert str(error.value) == message


def source(name: str) -> str:
    return (ROOT / f"pipeline/presets/{name}.yaml").read_text()


def overlaid(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """The rule for values, on parsed settings; an empty map is in braces."""
    both = {key for key, own in overlay.items() if isinstance(own, dict) and own and isinstance(base[key], dict)}
    both -= set(WHOLE)
    return base | overlay | {key: overlaid(base[key], overlay[key]) for key in both}


def settings(name: str) -> dict[str, Any]:
    own = yaml.safe_load(source(name))
    return overlaid(settings(own.pop("extends")), own) if "extends" in own else own


@pytest.mark.parametrize("name", PRESETS)
def test_a_written_preset_has_the_base_s_values_and_its_own(name: str, workplace: Path) -> None:
    (workplace / "params.yaml").write_text(compose(name))
    content, _ = params.load()
    assert repr(content) == repr(settings(name)) == repr(parse_yaml(compose(name), "params.yaml"))


def comments(text: str) -> dict[tuple[str, ...], tuple[list[str], str]]:
    """Of every key: the comment lines above it and the comment at its end."""
    found: dict[tuple[str, ...], tuple[list[str], str]] = {}
    above: list[str] = []
    place: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            above.append(line.strip())
        elif key := re.match(r"( *)([\w-]+):[^#]*(#.*)?$", line):
            place = [*place[: len(key[1]) // 2], key[2]]
            found[tuple(place)] = above, key[3] or ""
            above = []
    return found


@pytest.mark.parametrize("name", OVERLAYS)
def test_comments_of_the_base_stay_beside_those_of_the_overlay(name: str) -> None:
    base, own, written = (
        comments(text) for text in (compose(yaml.safe_load(source(name))["extends"]), source(name), compose(name))
    )
    kept = [place for place in written if place in base and not set(place[:-1]) & set(WHOLE) and place != ("seed",)]
    assert len(kept) > 100
    for place in kept:
        above, end = own.get(place, ([], ""))
        assert written[place] == (base[place][0] + above, end or base[place][1]), place


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_top_of_a_preset_is_at_the_top_of_its_params(name: str) -> None:
    top, _, _ = source(name).partition("extends:")
    assert top.startswith(f"# Preset `{name}`: ") and compose(name).startswith(f"{top}seed: 0 ")
    assert "extends" not in compose(name) and compose(name).count("# Preset") == 1
