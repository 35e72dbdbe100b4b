"""Features of a frozen network: Arrow IPC files, memory-mapped, one row per image.

Columns: `key`, `label`, `features` = fixed-size lists of float32. The schema's metadata hold what an image set's do,
and the shape of the images.
"""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from pipeline.artifacts.images import ROW_GROUP, ImageFile, Preprocessing
from pipeline.artifacts.roles import Role
from pipeline.artifacts.tables import column_tensor, read_table, tensor_column, write_tables
from pipeline.runtime.errors import UserError


def write(path: Path, parts: Iterable[tuple[list[str], Tensor, Tensor]], about: dict) -> None:
    """Write one file, a part at a time: keys, labels int64 (n,) and features float32 (n, d)."""
    write_tables(path, (_table(*part) for part in parts), about)


def about_images(file: ImageFile) -> dict:
    """The metadata of the features of an image set."""
    shape = list(file.load(0)[0].shape[1:])
    return {"classes": file.classes, "role": file.role, "preprocessing": asdict(file.preprocessing), "shape": shape}


def _table(keys: list[str], labels: Tensor, features: Tensor) -> pa.Table:
    columns = {"key": pa.array(keys), "label": pa.array(labels.tolist(), pa.int64())}
    return pa.table(columns | {"features": tensor_column(features)})


def of_images(folder: Path) -> list[Path]:
    """The files of image sets in a folder of features: ID splits, OOD sets, decoded test images; no outlier dataset."""
    named = [folder / f"{name}.arrow" for name in ("train", "val", "test", "decoded-test")]
    found = [path for path in named if path.is_file()]
    return found[:3] + sorted((folder / "ood").glob("*.arrow")) + found[3:]


class FeatureFile:
    """The features of a set of images, to be read in pieces as an `ImageFile` is.

    Attributes:
        classes, role, preprocessing: of the images.
        shape: of an image, (channels, height, width).
        width: of the features.
        sizes: images of each piece.

    Raises:
        UserError: the file is missing or of another format.
    """

    def __init__(self, path: Path):
        self.path = path
        self._table, about = read_table(path, "features")
        try:
            self.classes: list[str] = about["classes"]
            self.role: Role = about["role"]
            self.preprocessing = Preprocessing(**about["preprocessing"])
            self.shape: tuple[int, int, int] = tuple(about["shape"])
            self.width: int = self._table.schema.field("features").type.list_size
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: not features of images ({error}); run `dvc repro features`") from None
        total = self._table.num_rows
        self.sizes = [min(ROW_GROUP, total - start) for start in range(0, total, ROW_GROUP)]

    def names(self, piece: int) -> tuple[list[str], Tensor]:
        """Keys and labels of one piece."""
        rows = self._rows(piece)
        return rows.column("key").to_pylist(), torch.tensor(rows.column("label").to_pylist())

    def load(self, piece: int) -> tuple[Tensor, Tensor]:
        """Features, float32 (n, d), and labels, int64 (n,), of one piece."""
        rows = self._rows(piece)
        return column_tensor(rows.column("features"), (self.width,)), torch.tensor(rows.column("label").to_pylist())

    def _rows(self, piece: int) -> pa.Table:
        return self._table.slice(piece * ROW_GROUP, ROW_GROUP)


class Rows:
    """The features of the images of an outlier dataset, by key."""

    def __init__(self, path: Path):
        self.path = path
        table, _ = read_table(path, "features")
        self._place = {key: i for i, key in enumerate(table.column("key").to_pylist())}
        self._features = column_tensor(table.column("features"), (table.schema.field("features").type.list_size,))

    def pick(self, keys: list[str]) -> Tensor:
        """Features of these images, float32 (n, d), in their order.

        Raises:
            UserError: some are missing.
        """
        if missing := [key for key in keys if key not in self._place]:
            raise UserError(f"{self.path}: no features of {missing[0]}; run `dvc repro features`")
        return self._features[[self._place[key] for key in keys]]
