"""Source `folder`: a folder of class folders, and any number of OOD folders, read by Hugging Face `datasets`."""

import glob
import tempfile
from collections.abc import Mapping
from pathlib import Path

from datasets import Image, load_dataset
from datasets.utils.logging import disable_progress_bar

from pipeline.artifacts.images import OOD_LABEL, Picture
from pipeline.errors import UserError, one_line
from pipeline.sources.collection import Collection, OODSet, Role


def load(id_folder: Path, ood: Mapping[Role, Mapping[str, Path]]) -> Collection:
    """Read class folders of ID images, and OOD folders in which sub-folders have no meaning.

    Args:
        id_folder: holds one folder a class; the folder's name is the class's.
        ood: role -> set name -> folder.

    Raises:
        UserError: a folder is missing or unreadable, or holds fewer than two classes or no image.
    """
    classes, pictures = _read(id_folder, labelled=True)
    if len(classes) < 2:
        raise UserError(
            f"{id_folder}: found {len(classes)} class folders, expected at least 2; give each class a folder"
        )
    sets = {
        name: OODSet(role, _read(folder, labelled=False)[1])
        for role, folders in ood.items()
        for name, folder in folders.items()
    }
    return Collection(classes, pictures, sets)


def _read(folder: Path, labelled: bool) -> tuple[list[str], list[Picture]]:
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder; set it under `prepare` in params.yaml to a folder of images")
    disable_progress_bar()
    everything = {"train": f"{glob.escape(str(folder.resolve()))}/**"}  # a class may be called `test`
    with tempfile.TemporaryDirectory() as cache:
        try:
            data = load_dataset(
                "imagefolder", data_files=everything, split="train", drop_labels=not labelled, cache_dir=cache
            )
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: cannot be read as images ({one_line(error)}); check the folder") from None
        names = data.features["label"].names if "label" in data.features else []
        return names, [_picture(folder, row) for row in data.cast_column("image", Image(decode=False))]


def _picture(folder: Path, row: dict) -> Picture:
    path = Path(row["image"]["path"])
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); fix or remove the file") from None
    return Picture(path.relative_to(folder.resolve()).as_posix(), content, row.get("label", OOD_LABEL))
