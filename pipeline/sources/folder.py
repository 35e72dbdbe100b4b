"""Source `folder`: your own images, read by Hugging Face `datasets`: class folders, or parquet in its image layout."""

import glob
import tempfile
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features, Image, load_dataset
from datasets.utils.logging import disable_progress_bar
from pydantic import Field

from pipeline.artifacts.images import OOD_LABEL, Role
from pipeline.errors import UserError, one_line
from pipeline.params import Section
from pipeline.sources.collection import Collection, Item, OODSet, Split
from pipeline.sources.splits import halves, stratified, three_ways

Fraction = Annotated[float, Field(gt=0, lt=0.5)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]


class Splits(Section):
    """ID images that come split; without `val`, `val_fraction` of the test images serve as such."""

    train: str
    val: str | None = None
    test: str


class Settings(Section):
    """What the images are and where; a set that stands under `near` and `val_near` alike is halved."""

    id: str | Splits | None
    near: dict[Name, str]
    far: dict[Name, str]
    val_near: dict[Name, str]
    val_far: dict[Name, str]
    val_fraction: Fraction
    test_fraction: Fraction
    resize: Annotated[int, Field(ge=8)]
    size: Annotated[int, Field(ge=8)]
    channels: Annotated[int, Field(ge=1, le=3)]


def load(settings: Settings, seed: int) -> Collection:
    """List the images of the settings.

    Raises:
        UserError: a folder is missing or unreadable, holds fewer than two classes or no image, or a class is too small.
    """
    if settings.id is None:
        raise UserError("params.yaml: prepare.folder.id is null; set it to a folder of class folders, or to a parquet")
    if isinstance(settings.id, Splits):
        classes, splits = _given_splits(settings.id, settings.val_fraction, seed)
    else:
        classes, items = _labelled(settings.id)
        splits = three_ways(classes, items, settings.val_fraction, settings.test_fraction, seed)
    return Collection(classes, splits, _ood(settings, seed))


def _given_splits(given: Splits, val_fraction: float, seed: int) -> tuple[list[str], dict[Split, list[Item]]]:
    classes, train = _labelled(given.train)
    splits: dict[Split, list[Item]] = {"train": train}
    paths: dict[Split, str | None] = {"val": given.val, "test": given.test}
    for split, path in paths.items():
        if path is not None:
            names, splits[split] = _labelled(path)
            if names != classes:
                raise UserError(f"{path}: classes {names[:5]}, expected those of {given.train}: {classes[:5]}")
    if given.val is None:
        splits |= stratified(splits["test"], {"val": val_fraction}, "test", seed)
    return classes, splits


def _labelled(path: str) -> tuple[list[str], list[Item]]:
    classes, items = _read(Path(path), labelled=True)
    if len(classes) < 2:
        raise UserError(f"{path}: found {len(classes)} classes, expected at least 2; give each class a folder")
    return classes, items


def _ood(settings: Settings, seed: int) -> dict[str, OODSet]:
    sets: dict[str, OODSet] = {}

    def add(name: str, role: Role, items: list[Item]) -> None:
        if name in sets:
            raise UserError(f"params.yaml: prepare.folder: two OOD sets of one name, {name!r}; rename one")
        sets[name] = OODSet(role, items)

    pairs: list[tuple[Role, Role, dict[str, str], dict[str, str]]] = [
        ("near", "val-near", settings.near, settings.val_near), ("far", "val-far", settings.far, settings.val_far),
    ]  # fmt: skip
    for role, choice_role, tests, choices in pairs:
        for name, path in tests.items():
            items = _read(Path(path), labelled=False)[1]
            if choices.get(name) == path:
                items, held_out = halves(items, seed)
                add(f"{name}-val", choice_role, held_out)
            add(name, role, items)
        for name, path in choices.items():
            if tests.get(name) != path:
                add(name, choice_role, _read(Path(path), labelled=False)[1])
    return sets


def _read(path: Path, labelled: bool) -> tuple[list[str], list[Item]]:
    if path.suffix == ".parquet" and path.is_file():
        return _from_parquet(path, labelled)
    if not path.is_dir():
        raise UserError(
            f"{path}: not a folder, nor a parquet file; set it under `prepare.folder` in params.yaml to your images"
        )
    disable_progress_bar()
    everything = {"train": f"{glob.escape(str(path.resolve()))}/**"}  # a class may be called `test`
    with tempfile.TemporaryDirectory() as cache:
        try:
            data = load_dataset(
                "imagefolder", data_files=everything, split="train", drop_labels=not labelled, cache_dir=cache
            )
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read as images ({one_line(error)}); check the folder") from None
        names = data.features["label"].names if "label" in data.features else []
        return names, [_of_file(path, row) for row in data.cast_column("image", Image(decode=False))]


def _from_parquet(path: Path, labelled: bool) -> tuple[list[str], list[Item]]:
    try:
        table = pq.read_table(path)
        name = "img" if "img" in table.column_names else "image"  # the Hub's CIFAR has the one, others the other
        images = table.column(name).combine_chunks().field("bytes")
        label = Features.from_arrow_schema(table.schema).get("label")
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not images in Hugging Face's parquet layout ({one_line(error)})") from None
    labels = [OOD_LABEL] * len(table)
    if labelled:
        if not isinstance(label, ClassLabel):
            raise UserError(
                f"{path}: no column `label` with class names in the schema's metadata; write it as ClassLabel"
            )
        labels = table.column("label").to_pylist()
    return label.names if labelled else [], [Item(f"{i:07d}", y, images[i].as_py) for i, y in enumerate(labels)]


def _of_file(folder: Path, row: dict) -> Item:
    path = Path(row["image"]["path"])

    def read() -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); fix or remove the file") from None

    return Item(path.relative_to(folder.resolve()).as_posix(), row.get("label", OOD_LABEL), read)
