"""Benchmarks as data: one record a benchmark in pipeline/benchmarks. Imports no torch."""

from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict
from ruamel.yaml import YAML

from pipeline.artifacts.roles import Role
from pipeline.runtime.errors import UserError

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
        classes: number of ID classes; `classes_sha256` is of their names, one line each.
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
