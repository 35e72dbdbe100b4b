"""Labelled images of parquet files in Hugging Face's image layout: one file, or the shards of one set."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.artifacts.images import OOD_LABEL
from pipeline.errors import UserError, one_line
from pipeline.sources.class_folders import SPLIT_NAMES
from pipeline.sources.collection import ImageList, Item, Split
from pipeline.sources.walk import walk

SHARD = re.compile(r"(.+)-\d+-of-\d+")  # train-00000-of-00002, as the Hub names them


def shards(path: Path) -> list[Path]:
    """The parquet files of a path, sorted: itself, a glob's, or those of a folder without images; else none.

    A folder may hold them in folders, as a set's repository on the Hub does.
    """
    if path.suffix == ".parquet" and path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(path.rglob("*.parquet"))
        return [] if found and walk(path).images else found
    return sorted(Path(name) for name in glob.glob(str(path), recursive=True) if name.endswith(".parquet"))  # noqa: PTH207


def split_shards(files: Sequence[Path]) -> dict[Split, list[Path]]:
    """The files of each split by their names; empty where they do not name a training set and another one."""
    found: dict[Split, list[Path]] = {}
    for file in files:
        shard = SHARD.fullmatch(file.stem)
        if split := SPLIT_NAMES.get(shard[1] if shard else file.stem):
            found.setdefault(split, []).append(file)
    return found if "train" in found and len(found) > 1 else {}


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
