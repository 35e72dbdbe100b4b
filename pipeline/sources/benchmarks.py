"""Benchmarks as data: one record a benchmark in pipeline/benchmarks, held against what was found."""

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict
from ruamel.yaml import YAML

from pipeline.artifacts.images import Role
from pipeline.runtime.errors import UserError
from pipeline.sources.collection import Collection

RECORDS = files("pipeline") / "benchmarks"


class SetRecord(BaseModel):
    """A set of a benchmark: `pixels` is the digest of `prepare`'s manifest, where it is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    count: int | None = None
    pixels: str | None = None
    excluded: str | None = None


class Record(BaseModel):
    """A benchmark.

    Attributes:
        title: for tables.
        source: which reader lists its images, and for `openood` pytorch-ood's class.
        resize: shorter side in pixels, bilinear; then a centre crop of `size`.
        mean, std: of each channel, which the networks normalise with; null: those of the training images.
        classes: number of ID classes; `classes_sha256` is of their names, a line each.
        sets: `train`, `val`, `test`, and the OOD sets by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    source: Literal["digits", "openood", "folder"]
    benchmark: str | None = None
    resize: int
    size: int
    channels: int
    mean: list[float] | None = None
    std: list[float] | None = None
    classes: int | None = None
    classes_sha256: str | None = None
    sets: dict[str, SetRecord] = {}


def names() -> list[str]:
    """The benchmarks there is a record of."""
    return sorted(item.name.removesuffix(".yaml") for item in RECORDS.iterdir() if item.name.endswith(".yaml"))


def record(name: str) -> Record:
    """A benchmark's record.

    Raises:
        UserError: there is none.
    """
    if name not in names():
        raise UserError(f"params.yaml: prepare.benchmark: unknown {name!r}; expected {', '.join([*names(), 'folder'])}")
    return Record.model_validate(YAML(typ="safe").load((RECORDS / f"{name}.yaml").read_text(encoding="utf-8")))


def load(expected: Record, root: str | None, download: bool, partial: bool) -> Collection:
    """List the images of a benchmark.

    Raises:
        UserError: images are missing, or `root` is not named.
    """
    if expected.source == "digits":
        from pipeline.sources import digits

        return digits.load()
    from pipeline.sources import openood

    if root is None or expected.benchmark is None:
        raise UserError(
            "params.yaml: prepare.root is null; set it to the folder of OpenOOD's images, or where to download"
        )
    roles: dict[str, Role] = {name: about.role for name, about in expected.sets.items() if about.role != "id"}
    return openood.load(expected.benchmark, roles, Path(root), download, partial)


def differences(expected: Record, classes: Sequence[str], counts: dict[str, int], pixels: dict[str, str]) -> list[str]:
    """What was found and is not what the record says, a sentence each.

    Args:
        classes: names of the ID classes.
        counts: images by set.
        pixels: digest of each set's pixels, labels and order.
    """
    found = []
    digest = hashlib.sha256("\n".join(classes).encode()).hexdigest()
    if expected.classes not in (None, len(classes)):
        found.append(f"{len(classes)} classes, expected {expected.classes}")
    elif expected.classes_sha256 not in (None, digest):
        found.append(f"classes {', '.join(classes[:3])}, ... are not the benchmark's")
    for name, about in expected.sets.items():
        if about.count not in (None, counts.get(name, 0)):
            found.append(f"{name}: {counts.get(name, 0)} images, expected {about.count}")
        elif about.pixels not in (None, pixels.get(name)):
            found.append(f"{name}: other images than the benchmark's, by sha256 {pixels.get(name, '')[:12]}")
    if expected.sets and (extra := set(counts) - set(expected.sets)):
        found.append(f"sets that the benchmark has not: {', '.join(sorted(extra))}")
    return found
