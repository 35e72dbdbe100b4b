"""Labelled images of parquet files in Hugging Face's image layout: one file, or the shards of one set."""

import glob
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.artifacts.roles import OOD_LABEL
from pipeline.runtime.errors import UserError, one_line
from pipeline.sources.class_folders import EXPLICITLY, SPLIT_NAMES
from pipeline.sources.collection import ImageList, Item, Split
from pipeline.sources.walk import walk

SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)")  # train-00000-of-00002, as the Hub names them


def shards(path: Path) -> list[Path]:
    """The parquet files of a path, sorted: itself, a glob's, or those of a folder without images; else none.

    A folder may hold them in folders, as a set's repository on the Hub does.

    Raises:
        UserError: a shard is missing, by the number that their names give.
    """
    if path.suffix == ".parquet" and path.is_file():
        return [path]
    if path.is_dir():
        files = [file for file in path.rglob("*.parquet") if not _is_hidden(file.relative_to(path))]
        found = [] if files and walk(path).images else sorted(files)
    else:
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if name.endswith(".parquet"))  # noqa: PTH207
    _check_complete(found)
    return found


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _check_complete(files: Sequence[Path]) -> None:
    counts = Counter((file.parent, shard[1], int(shard[3])) for file in files if (shard := SHARD.fullmatch(file.stem)))
    for (folder, name, expected), count in counts.items():
        if count != expected:
            raise UserError(f"{folder / name}: {count} shards of {expected} are there; get the others")


def split_shards(files: Sequence[Path]) -> dict[Split, list[Path]]:
    """The files of each split by their names or folders; empty where they do not name a training set and another one.

    Raises:
        UserError: a file beside them belongs to no split.
    """
    found: dict[Split, list[Path]] = {}
    others = []
    for file in files:
        shard = SHARD.fullmatch(file.stem)
        names = [shard[1] if shard else file.stem, file.parent.name]
        split = next((SPLIT_NAMES[name.lower()] for name in names if name.lower() in SPLIT_NAMES), None)
        if split:
            found.setdefault(split, []).append(file)
        else:
            others.append(file)
    if "train" not in found or len(found) < 2:
        return {}
    if others:
        raise UserError(f"{others[0]}: is beside files of {', '.join(found)} and belongs to none; {EXPLICITLY}")
    return found


def read(files: Sequence[Path], labelled: bool) -> ImageList:
    """The images of some files as one set, numbered through.

    Raises:
        UserError: not that layout, other classes than the first file's, rows without an image, or labels of no class.
    """
    classes: list[str] = []
    items: list[Item] = []
    for file in files:
        names, images, labels = _columns(file, labelled)
        if items and names != classes:
            raise UserError(f"{file}: classes {names[:5]}, expected those of {files[0]}: {classes[:5]}")
        classes = names
        items += [Item(f"{len(items) + i:07d}", label, images[i].as_py) for i, label in enumerate(labels)]
    return ImageList(classes, items, [])


def _columns(file: Path, labelled: bool) -> tuple[list[str], pa.ChunkedArray, list[int]]:
    """Names of the classes, encoded images and labels of a file."""
    from datasets import ClassLabel, Features  # here, for it takes seconds to import

    try:
        table = pq.read_table(file)
        name = "img" if "img" in table.column_names else "image"  # the Hub's CIFAR has the one, others the other
        images = pc.struct_field(table.column(name), "bytes")
        label = Features.from_arrow_schema(table.schema).get("label")
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{file}: not images in Hugging Face's parquet layout ({one_line(error)})") from None
    if images.null_count:
        what = "only the path of the image; embed the images, as `Dataset.push_to_hub` does"
        _refuse(file, pc.is_null(images), f"hold no image, or {what}")
    if not labelled:
        return [], images, [OOD_LABEL] * len(images)
    if not isinstance(label, ClassLabel):
        raise UserError(f"{file}: no column `label` with class names in the schema's metadata; write it as ClassLabel")
    return label.names, images, _labels(file, table.column("label"), len(label.names))


def _labels(file: Path, column: pa.ChunkedArray, classes: int) -> list[int]:
    """Class indices.

    Raises:
        UserError: null, or of no class, as where a set's owner hides the labels of its test images.
    """
    known = pc.and_(pc.greater_equal(column, 0), pc.less(column, classes))
    wrong = pc.invert(pc.fill_null(known, False))
    if pc.any(wrong).as_py():
        found = column.filter(wrong)[0].as_py()
        _refuse(
            file,
            wrong,
            f"have no label (the first: {found}), expected 0 to {classes - 1}; use images whose labels are known",
        )
    return [int(label) for label in column.to_pylist()]


def _refuse(file: Path, wrong: Any, what: str) -> None:
    rows = pc.indices_nonzero(wrong)
    raise UserError(f"{file}: {len(rows)} rows, the first of them row {rows[0].as_py()}, {what}")
