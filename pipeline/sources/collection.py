"""What every source gives: labelled ID images and named OOD sets, not yet read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from pipeline.artifacts.roles import Role

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Item:
    """One encoded image: `label` is a class index, or -1 for OOD; `key` is unique in its set.

    `read` gives the bytes of the file, and raises UserError where that fails.
    """

    key: str
    label: int
    read: Callable[[], bytes]


@dataclass(frozen=True)
class ImageList:
    """Images of one place, of the named classes or (with label -1) of none; `notes` say what was not used, and why."""

    classes: list[str]
    items: list[Item]
    notes: list[str]


@dataclass(frozen=True)
class OODSet:
    """A benchmark set and what it is for: testing (`near`, `far`) or choices (`val-near`, `val-far`).

    Attributes:
        one_photograph: the images are its tiles, so that they say little of other photographs.
    """

    role: Role
    items: list[Item]
    one_photograph: bool = False


@dataclass(frozen=True)
class Collection:
    """ID images with labels 0..len(classes)-1, split by whoever knows how, and OOD sets by name.

    `unknown` are OOD images to train on.
    `notes` are for the user: what was left out, and what was decided.
    """

    classes: list[str]
    splits: dict[Split, list[Item]]
    ood: dict[str, OODSet]
    notes: list[str] = field(default_factory=list)
    unknown: list[Item] = field(default_factory=list)
