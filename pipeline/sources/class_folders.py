"""Labelled images of a folder: a class is a folder directly under it, and everything below belongs to that class."""

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from pipeline.artifacts.roles import OOD_LABEL
from pipeline.runtime.console import printable
from pipeline.runtime.errors import UserError
from pipeline.sources.collection import ImageList, Item, Split
from pipeline.sources.walk import Found, passed_over, walk

SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
SPLIT_LIKE = re.compile(
    r"(train|val|dev|eval|test|hold-?out)(ing|id|idation)?([ _-]?(set|split|data|images))?$", re.IGNORECASE
)
EXPLICITLY = "name the folder of each split, prepare.folder.id: {train: ..., val: ..., test: ...}"


def split_folders(root: Path) -> dict[Split, Path]:
    """The train, validation and test folders of a root that is split already; empty where its folders are classes.

    It is split where one folder is named as the training set, another as validation or test set, and both have folders
    of a common name. A class may well be called `train`.

    Raises:
        UserError: it cannot be told which of the two it is.
    """
    folders = [root / name for name in _folders(root)]
    found = {SPLIT_NAMES[path.name.lower()]: path for path in folders if path.name.lower() in SPLIT_NAMES}
    names = {split: set(map(_composed, _folders(folder))) for split, folder in found.items()}
    if "train" in found and len(found) > 1 and all(names["train"] & own for own in names.values()):
        for path in folders:
            if path not in found.values() and walk(path).images:
                raise UserError(f"{root}: is split, and {path.name} beside the splits has images too; {EXPLICITLY}")
        return found
    if folders and all(SPLIT_LIKE.match(path.name) for path in folders):
        listed = ", ".join(path.name for path in folders)
        raise UserError(f"{root}: folders named as splits ({listed}) without class folders in common; {EXPLICITLY}")
    return {}


def _folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def beside(root: Path, folders: Iterable[Path]) -> list[str]:
    """A note of what lies beside the folders of a root that is split."""
    names = sorted(path.name for path in root.iterdir() if path not in folders and not path.name.startswith("."))
    return [printable(f"{root}: left out {', '.join(names)}, beside the splits")] if names else []


def unlabelled(folder: Path) -> ImageList:
    """The images of a folder and of all folders below it."""
    found = walk(folder)
    return ImageList([], [_item(folder, path, OOD_LABEL) for path in found.images], _notes(folder, found))


def labelled(root: Path) -> ImageList:
    """The classes of a folder, in the order of their names, and their images.

    Raises:
        UserError: class folders without a readable image, one line each; names that look the same; fewer than 2
            classes.
    """
    classes: list[str] = []
    items: list[Item] = []
    problems: list[str] = []
    beside = Found()
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        if reason := passed_over(entry):
            beside.leave_out(reason, entry.name)
        elif not entry.is_dir():
            beside.leave_out("image in no class folder", entry.name)
        elif (found := walk(root / entry.name)).images:
            items += [_item(root, path, len(classes)) for path in found.images]
            classes.append(entry.name)
            beside.add(Found(left_out=found.left_out), below=entry.name)
        else:
            seen = f", only {found.summary()}" if found.left_out else ""
            problems.append(
                f"{root / entry.name}: a class folder without a readable image{seen}; add some, or remove it"
            )
    problems += _twins(root, classes)
    if len(classes) < 2 and not problems:
        found_one = f"one class folder, {classes[0]}" if classes else "no class folder"
        seen = f" (beside {beside.summary()})" if beside.left_out else ""
        inner = f", or name {root / classes[0]} if its folders are the classes" if classes else ""
        problems = [f"{root}: {found_one}{seen}, expected at least 2; give each class a folder{inner}"]
    if problems:
        raise UserError("\n  ".join(map(printable, problems)))
    return ImageList([printable(name) for name in classes], items, _notes(root, beside))


def form(name: str) -> str:
    """The Unicode form of a name: NFC (é as one character), NFD (e and an accent, as macOS writes), or neither."""
    forms = [kind for kind in ("NFC", "NFD") if unicodedata.is_normalized(kind, name)]
    return " and ".join(forms) or "neither NFC nor NFD"


def unknown(name: str, classes: list[str]) -> str:
    """What is said of a class that is not among others; names that look the same differ in their Unicode form."""
    for other in classes:
        if _composed(other) == _composed(name):
            return f"class {name!r} in Unicode form {form(name)}, expected {form(other)} as in train; rename its folder"
    return f"class {name!r}, which train has not; expected some of {', '.join(classes[:5])}; rename or remove it"


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _twins(root: Path, classes: list[str]) -> list[str]:
    """Classes whose names look the same, one line each."""
    first: dict[str, str] = {}
    pairs = [(first.setdefault(_composed(name), name), name) for name in classes]
    return [
        f"{root}: two class folders are called {name}, in Unicode form {form(other)} and in {form(name)}; merge them"
        for other, name in pairs
        if other != name
    ]


def _notes(root: Path, found: Found) -> list[str]:
    return [printable(f"{root}: left out {found.summary()}")] if found.left_out else []


def _item(root: Path, path: Path, label: int) -> Item:
    def read() -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"{printable(path)}: cannot be read ({error.strerror}); fix or remove the file") from None

    return Item(printable(path.relative_to(root).as_posix()), label, read)
