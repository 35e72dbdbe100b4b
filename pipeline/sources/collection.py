"""What every source gives: labelled ID images and named OOD sets."""

from dataclasses import dataclass

from pipeline.artifacts.images import Picture, Role


@dataclass(frozen=True)
class OODSet:
    """A benchmark set and what it is for: testing (`near`, `far`) or choices (`val-near`, `val-far`)."""

    role: Role
    pictures: list[Picture]


@dataclass(frozen=True)
class Collection:
    """ID images with labels 0..len(classes)-1, and OOD sets by name."""

    classes: list[str]
    pictures: list[Picture]
    ood: dict[str, OODSet]
