"""dataset.json: what an outlier dataset says of itself. Here are the keys that every reader relies on.

Others are for people: `licence`, `latent`, `decoding`, `thresholds`, `generators`, `params`, `seed`, `quality`; those
of a merged dataset stand in its parts.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, PositiveInt, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from pipeline.runtime.errors import UserError, first_problem
from pipeline.runtime.files import read_json_object

SCHEMA_VERSION = 2
Percent = Annotated[float, Field(ge=0, le=100)]


class Shard(TypedDict):
    """A shard: its file name, the checksum of its bytes, and its number of samples."""

    name: str
    sha256: str
    samples: PositiveInt


class Counts(TypedDict):
    """What became of a method's candidates; `strength` says what the column means, `source_type` see marks.py."""

    strength: NotRequired[str]
    source_type: NotRequired[str | None]
    packed: int
    candidates: int
    rejected: dict[str, int]


class Identity(TypedDict):
    """The ID set that the outliers belong to."""

    benchmark: NotRequired[str]
    classes: list[str]
    count: int
    shape: Annotated[list[PositiveInt], Field(min_length=3, max_length=3)]


class Separation(TypedDict):
    """How well numbers that look at no content tell a method's accepted images from ID validation images.

    Attributes:
        method: None for the ID validation images as the decoder shows them: what the decoder alone gives away.
        reference: the ID validation images as they are, or as the decoder shows them.
        auroc: percent, 50 where nothing tells them apart, by statistic; `probe` is a linear probe of the spectrum and
            all statistics.
    """

    kind: Literal["separation"]
    method: str | None
    reference: Literal["id", "decoded"]
    auroc: dict[str, Percent]


class Diversity(TypedDict):
    """How much a method's accepted images repeat each other.

    Attributes:
        nearest: median distance to the nearest other latent, in standard deviations of ID latents.
        duplicates: images with exactly the pixels of an earlier one; without them all are distinct.
    """

    kind: Literal["diversity"]
    method: str
    nearest: float
    duplicates: Annotated[int, Field(ge=0)]


class Licences(TypedDict):
    """The licences that come together: of the ID images, by generator, of the result."""

    id: str
    generators: dict[str, str]
    result: str


class About(TypedDict):
    """The keys of dataset.json that every reader relies on; `merged` has those of the parts."""

    shards: list[Shard]
    methods: dict[str, Counts]
    id: Identity
    audit: NotRequired[list[Annotated[Separation | Diversity, Field(discriminator="kind")]]]
    fingerprint: NotRequired[str]
    licences: NotRequired[Licences]
    merged: NotRequired[list["About"]]


ABOUT = TypeAdapter(About)


def read(folder: Path) -> dict[str, Any]:
    """The dataset.json of an outlier dataset.

    Raises:
        UserError: it is missing, of another schema version, or without the form of `About`.
    """
    path = folder / "dataset.json"
    about = read_json_object(path)
    if (version := about.get("schema_version")) != SCHEMA_VERSION:
        raise UserError(
            f"{folder}: outlier dataset of schema {version!r}, expected {SCHEMA_VERSION}; make it again with "
            "`dvc repro shards`, or get one of that schema"
        )
    try:
        ABOUT.validate_python(about, strict=True)
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}; get the file again") from None
    return about


def origins(about: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The dataset.json of every dataset that was not merged: this one, or its parts."""
    for part in about.get("merged", []):
        yield from origins(part)
    if "merged" not in about:
        yield about


def audit_rows(abouts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The audits of several datasets together, equal rows once: all of one ID set say what its decoder gives away."""
    rows: list[dict[str, Any]] = []
    for row in (row for about in abouts for row in about.get("audit", [])):
        if row not in rows:
            rows.append(row)
    return rows


def separations(audit: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The separations of an audit as rows of a table: `images`, what was compared, then percent by statistic."""
    references = {"id": "id", "decoded": "decoded id"}
    return [
        {"images": f"{references[row['reference']]} against {row['method'] or 'decoded id'}"} | row["auroc"]
        for row in audit
        if row["kind"] == "separation"
    ]
