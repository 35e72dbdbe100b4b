"""Source `folder`: your own images, in class folders or in parquet of Hugging Face's image layout, split or not."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.artifacts.roles import Role
from pipeline.runtime.errors import UserError
from pipeline.settings.prepare import FolderSettings, SplitPaths
from pipeline.sources import class_folders, copies, parquet
from pipeline.sources.collection import Collection, ImageList, Item, OODSet, Split
from pipeline.sources.splits import halves, stratified, three_ways


def load(settings: FolderSettings, seed: int) -> Collection:
    """List the images of the settings.

    Raises:
        UserError: a folder is missing or unreadable, holds fewer than two classes or no image, a class is too small, or
            an image is in two classes or splits.
    """
    if settings.id is None:
        raise UserError("params.yaml: prepare.folder.id is null; set it to a folder of class folders, or to a parquet")
    try:
        given = _given(settings.id)
        found = _use(given, settings, seed) if given else _draw(str(settings.id), settings, seed)
        ood, notes = _ood(settings, seed)
        unknown = _unknown(settings.unknown, found.splits, ood) if settings.unknown else ImageList([], [], [])
    except OSError as error:
        where = error.filename or _name(settings.id)
        raise UserError(f"{where}: cannot be read ({error.strerror}); check the path and its permissions") from None
    return replace(found, ood=ood, notes=found.notes + notes + unknown.notes, unknown=unknown.items)


def _given(own: str | SplitPaths) -> dict[Split, ImageList]:
    """The images of each split, where they come split: by the settings, or by the names of folders or files."""
    if isinstance(own, SplitPaths):
        paths: dict[Split, str | None] = {"train": own.train, "val": own.val, "test": own.test}
        return {split: _read(path, labelled=True) for split, path in paths.items() if path is not None}
    if files := parquet.split_shards(parquet.shards(Path(own))):
        return {split: parquet.read(shards, labelled=True) for split, shards in files.items()}
    folders = class_folders.split_folders(Path(own)) if Path(own).is_dir() else {}
    found = {split: _read(str(folder), labelled=True) for split, folder in folders.items()}
    if found:
        found["train"].notes.extend(class_folders.beside(Path(own), folders.values()))
    return found


def _use(given: Mapping[Split, ImageList], settings: FolderSettings, seed: int) -> Collection:
    """SplitPaths as they were given; validation or test images that are missing are drawn."""
    classes = given["train"].classes
    splits = {split: _aligned(split, found, classes) for split, found in given.items()}
    notes = [note for found in given.values() for note in found.notes]
    counts = ", ".join(f"{split} {len(items)}" for split, items in splits.items())
    notes.append(f"{_name(settings.id)}: split already, and used so: {counts}")
    twins = copies.find(splits)
    copies.refuse(twins, _name(settings.id))
    if twins:
        notes.append(f"{_name(settings.id)}: {len(twins)} copies within a class, kept (the first: {twins[0].pair})")
    for split, items in splits.items():
        there = {item.label for item in items}
        if lacking := ", ".join(name for label, name in enumerate(classes) if label not in there):
            if split == "train":
                raise UserError(f"train: no image of {lacking}; add some, or take the class out")
            notes.append(f"{split}: no image of {lacking}")
    if "test" not in splits:  # a copy could come to be on both sides
        train = copies.different(splits["train"])
        splits |= stratified(train, {"test": settings.test_fraction}, "train", seed)
    if "val" not in splits:
        splits |= stratified(copies.different(splits["test"]), {"val": settings.val_fraction}, "test", seed)
    return Collection(classes, splits, {}, notes)


def _draw(place: str, settings: FolderSettings, seed: int) -> Collection:
    """SplitPaths drawn from images that came without; of copies within a class the first one counts."""
    found = _read(place, labelled=True)
    twins = copies.find({"train": found.items})
    copies.refuse(twins, place)
    extra = {id(twin.item) for twin in twins}
    notes = list(found.notes)
    if twins:
        notes.append(f"{place}: left out {len(twins)} copies within a class (the first: {twins[0].pair})")
    items = [item for item in found.items if id(item) not in extra]
    splits = three_ways(found.classes, items, settings.val_fraction, settings.test_fraction, seed)
    return Collection(found.classes, splits, {}, notes)


def _name(own: str | SplitPaths | None) -> str:
    return own if isinstance(own, str) else "prepare.folder.id"


def _aligned(split: Split, found: ImageList, classes: list[str]) -> list[Item]:
    """A split's images, labelled by the classes of the training images.

    Raises:
        UserError: a class that the training images have not.
    """
    for name in found.classes:
        if name not in classes:
            raise UserError(f"{split}: {class_folders.unknown(name, classes)}")
    return [replace(item, label=classes.index(found.classes[item.label])) for item in found.items]


def _ood(settings: FolderSettings, seed: int) -> tuple[dict[str, OODSet], list[str]]:
    sets: dict[str, OODSet] = {}
    notes: list[str] = []

    def read(path: str) -> list[Item]:
        found = _read(path, labelled=False)
        notes.extend(found.notes)
        return found.items

    def add(name: str, role: Role, items: list[Item]) -> None:
        if name in sets:
            raise UserError(f"params.yaml: prepare.folder: two OOD sets of one name, {name!r}; rename one")
        sets[name] = OODSet(role, items)

    pairs: list[tuple[Role, Role, dict[str, str], dict[str, str]]] = [
        ("near", "val-near", settings.near, settings.val_near), ("far", "val-far", settings.far, settings.val_far),
    ]  # fmt: skip
    for role, choice_role, tests, choices in pairs:
        _refuse_other_names(tests, choices)
        for name, path in tests.items():
            items = read(path)
            if _same(choices.get(name), path):
                items, held_out = halves(items, seed)
                add(f"{name}-val", choice_role, held_out)
            add(name, role, items)
        for name, path in choices.items():
            if not _same(tests.get(name), path):
                add(name, choice_role, read(path))
    return sets, notes


def _unknown(path: str, splits: Mapping[Any, list[Item]], ood: Mapping[str, OODSet]) -> ImageList:
    """OOD images to train on.

    Raises:
        UserError: there is none, or some of them are ID images, or in a set for testing or choices.
    """
    found = _read(path, labelled=False)
    if not found.items:
        raise UserError(f"params.yaml: prepare.folder.unknown: {path}: no image; add some, or set it to null")
    everything = {**splits, **{name: own.items for name, own in ood.items()}, "unknown": found.items}
    if taken := [copy for copy in copies.find(everything) if "unknown" == copy.split != copy.first_split]:
        raise UserError(
            f"params.yaml: prepare.folder.unknown: {len(taken)} images are in other sets too, the first of them "
            f"{taken[0].pair}; unknown images to train on are of no class and in no other set: remove one of each pair"
        )
    return found


def _same(one: str | None, other: str) -> bool:
    return one is not None and Path(one).resolve() == Path(other).resolve()


def _refuse_other_names(tests: Mapping[str, str], choices: Mapping[str, str]) -> None:
    """Stop at images that are for testing and, by another name, for choices."""
    for name, path in choices.items():
        for other, tested in tests.items():
            if other != name and _same(tested, path):
                raise UserError(
                    f"params.yaml: prepare.folder: {path} is for testing ({other}) and for choices ({name}); give both "
                    "one name, and each gets a half"
                )


def _read(place: str, labelled: bool) -> ImageList:
    path = Path(place)
    if files := parquet.shards(path):
        found = parquet.read(files, labelled)
        if labelled and len(found.classes) < 2:
            raise UserError(f"{path}: one class, {', '.join(found.classes)}, expected at least 2")
        return found
    if not path.is_dir():
        raise UserError(
            f"{path}: not a folder, nor parquet files; set it under `prepare.folder` in params.yaml to your images"
        )
    return class_folders.labelled(path) if labelled else class_folders.unlabelled(path)
