"""Section `prepare`: which images, and their splits."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline.settings.section import LocalPath, Section

LARGEST = 10_000  # pixels of a side
TAKEN = ("train", "val", "test", "unknown", "decoded-test")  # names of sets that are there already
Fraction = Annotated[float, Field(gt=0, lt=0.5)]


def _is_free(name: str) -> str:
    if name in TAKEN:
        raise ValueError(f"{name!r} is the name of another set; choose another")
    return name


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$"), AfterValidator(_is_free)]


class SplitPaths(Section):
    """ID images that come split; without `val`, `val_fraction` of the test images serve as such."""

    train: LocalPath
    val: LocalPath | None = None
    test: LocalPath


class HoldOut(Section):
    """Which classes are kept aside, in turn, to see whether what was never shown is noticed.

    Attributes:
        near: share of the classes that are tested with.
        val_near: share that choices are made with.
        splits: so many times, with other classes each time.
    """

    near: Fraction
    val_near: Annotated[float, Field(ge=0, lt=0.5)]
    splits: Annotated[int, Field(ge=1, le=100)]


class NamedSplit(Section):
    """Names of the classes that one split keeps aside: to test with, and to make choices with."""

    near: Annotated[list[str], Field(min_length=1)]
    val_near: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [*self.near, *self.val_near]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} named twice; a class is tested with or chosen with, once")
        return self


class FolderSettings(Section):
    """What your own images are and where; a set under `near` and `val_near` alike is halved.

    Attributes:
        hold_out: shares of the classes that are drawn at random, or the classes of each split by name.
        unknown: images of none of the classes to train on, for the method `unknown`; never tested or chosen on.
    """

    id: LocalPath | SplitPaths | None
    near: dict[Name, LocalPath]
    far: dict[Name, LocalPath]
    val_near: dict[Name, LocalPath]
    val_far: dict[Name, LocalPath]
    unknown: LocalPath | None = None
    hold_out: HoldOut | Annotated[list[NamedSplit], Field(min_length=1)] | None = None
    val_fraction: Fraction
    test_fraction: Fraction
    resize: Annotated[int, Field(ge=8, le=LARGEST)]
    size: Annotated[int, Field(ge=8, le=LARGEST)]
    channels: Literal[1, 3]

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.size > self.resize:
            raise ValueError(f"size {self.size}, expected at most resize = {self.resize}: the crop is taken from it")
        return self


class PrepareSettings(Section):
    """A benchmark by name, or `folder`."""

    benchmark: str
    root: LocalPath | None
    download: bool
    partial: bool
    folder: FolderSettings | None
