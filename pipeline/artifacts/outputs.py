"""What a model said of a set of images: parquet, one row per image, all that scoring needs.

A model's folder holds `{train,val,test}.parquet` of ID images and `ROLE/SET.parquet` of every other set, ROLE one of
near, far, val-near, val-far, decoded. Their columns:

- `key`: string, unique in the set;
- `label`: int64, the class's index; -1 for OOD;
- `logits`: list of float32, one a class;
- `features`: list of float32, what the last layer takes; optional, only detectors of features need it;
- any other column, float: the scores of a detector that needed images or gradients, larger for OOD; but not the index
  that pandas saves beside its columns, and never `set`, `role`, `recipe` or `seed`, which the tables of scores hold.

`head.parquet`, optional too, has one row per class, `weight` (list of float32) and `bias`: the last layer.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from pipeline.artifacts.roles import OOD_LABEL, OOD_ROLES, Role
from pipeline.artifacts.tables import column_tensor, tensor_column
from pipeline.runtime.errors import UserError, like, one_line

SPLITS: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")
COLUMNS = ("key", "label", "logits", "features")
RESERVED = ("set", "role", "recipe", "seed")
PANDAS_INDEX = re.compile(r"__index_level_\d+__")  # how pandas calls an index without a name
ROLES: tuple[Role, ...] = (*OOD_ROLES["test"], *OOD_ROLES["val"], "decoded")  # of the sets in folders
ROW_GROUP = 10_000  # rows that are read at a time


@dataclass(frozen=True)
class Outputs:
    """Logits float32 (n, classes), features float32 (n, d) or none, labels int64 (n,), n keys.

    `scores` are float64 (n,), by name, of detectors that needed more than these.
    """

    keys: list[str]
    labels: Tensor
    logits: Tensor
    features: Tensor | None
    scores: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Head:
    """The last layer: logits = features @ weight.T + bias; float32 (classes, d) and (classes,)."""

    weight: Tensor
    bias: Tensor


def path_of(folder: Path, name: str, role: Role) -> Path:
    """Where a model's folder has the outputs of a set."""
    return folder / f"{name}.parquet" if role == "id" else folder / role / f"{name}.parquet"


def write(path: Path, parts: Iterable[Outputs]) -> None:
    """Write the outputs of one set, a part at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        writer = None
        for table in map(_table, parts):
            writer = writer or stack.enter_context(pq.ParquetWriter(path, table.schema))
            writer.write_table(table, row_group_size=ROW_GROUP)


def _table(outputs: Outputs) -> pa.Table:
    columns = {
        "key": pa.array(outputs.keys),
        "label": pa.array(outputs.labels.numpy()),
        "logits": tensor_column(outputs.logits),
    }
    if outputs.features is not None:
        columns["features"] = tensor_column(outputs.features)
    return pa.table(columns | outputs.scores)


def write_head(path: Path, head: Head) -> None:
    """Write the last layer."""
    pq.write_table(pa.table({"weight": tensor_column(head.weight), "bias": head.bias.numpy()}), path)


def _is_list(kind: pa.DataType) -> bool:
    """Any of Arrow's lists: pandas writes one, polars and others write the rest."""
    kinds = ("list", "large_list", "fixed_size_list", "list_view", "large_list_view")
    return any(getattr(pa.types, f"is_{name}")(kind) for name in kinds)


def _matrix(path: Path, column: pa.ChunkedArray, name: str) -> Tensor:
    if not _is_list(column.type):
        raise UserError(f"{path}: {name} of type {column.type}, expected lists of float32; see artifacts/outputs.py")
    if not (pa.types.is_floating(column.type.value_type) or pa.types.is_integer(column.type.value_type)):
        raise UserError(f"{path}: {name} of {column.type.value_type}, expected float32; see artifacts/outputs.py")
    widths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(widths) != 1 or not widths[0]:
        raise UserError(f"{path}: {name} of lengths {widths[:5]}, expected one length; write the outputs again")
    values = column_tensor(column, (widths[0],))
    if not torch.isfinite(values).all():
        raise UserError(f"{path}: {name} has NaN or infinite values; train the model again, with a lower learning rate")
    return values


def _problems(table: pa.Table, role: Role) -> dict[str, np.ndarray]:
    """What may be wrong with the rows of a set, and the rows that it holds for."""
    keys = np.array([str(key) for key in table.column("key").to_pylist()])
    labels = pc.fill_null(table.column("label").cast(pa.float64()), float("nan")).to_numpy()
    order = np.argsort(keys, kind="stable")
    return {
        "without a key": np.flatnonzero(pc.is_null(table.column("key")).to_numpy()),
        "with the key of an earlier row": np.sort(order[1:][keys[order][1:] == keys[order][:-1]]),
        "without a label": np.flatnonzero(np.isnan(labels)),
        "with a label that is no whole number": np.flatnonzero(labels != np.round(labels)),
        "with the label -1 of OOD, in a set of ID images": np.flatnonzero((labels == OOD_LABEL) & (role == "id")),
    }


class OutputFile:
    """The outputs of one set, on disk.

    Attributes:
        name: of the set.
        role: what the set is for, see `images.ImageSet`.
        score_names: columns that are scores.

    Raises:
        UserError: missing, unreadable, empty, or without a column that is needed.
    """

    def __init__(self, path: Path, role: Role):
        self.path, self.name, self.role = path, path.stem, role
        try:
            self._file = pq.ParquetFile(path)
        except FileNotFoundError:
            raise UserError(f"{path}: not found; run `dvc repro infer`, or `dvc pull`") from None
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path}: not readable ({one_line(error)}); write the outputs again") from None
        columns = self._file.schema_arrow.names
        missing = {"key", "label", "logits"} - set(columns)
        if missing:
            raise UserError(f"{path}: no column {' or '.join(sorted(missing))}; see artifacts/outputs.py")
        if len(self) == 0:
            raise UserError(f"{path}: no rows; write the outputs again")
        if reserved := [name for name in RESERVED if name in columns]:
            raise UserError(f"{path}: a column {reserved[0]!r}, a name of the tables of scores; rename or drop it")
        if twice := [name for name in columns if columns.count(name) > 1]:
            raise UserError(f"{path}: two columns {twice[0]!r}; drop one")
        index = (self._file.schema_arrow.pandas_metadata or {}).get("index_columns", [])
        known = {*COLUMNS, *(name for name in index if isinstance(name, str))}
        self.score_names = [name for name in columns if name not in known and not PANDAS_INDEX.fullmatch(name)]
        self._check_rows()

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def _check_rows(self) -> None:
        """Refuse keys that are null or there twice, and labels that are no class of an ID set.

        Raises:
            UserError: says how many, and names the first.
        """
        table = self._file.read(columns=["key", "label"])
        if not (pa.types.is_integer(kind := table.column("label").type) or pa.types.is_floating(kind)):
            raise UserError(f"{self.path}: label of type {kind}, expected numbers; see artifacts/outputs.py")
        for problem, rows in _problems(table, self.role).items():
            if len(rows):
                first = f"the first is row {rows[0]}, key {table.column('key')[int(rows[0])].as_py()!r}"
                raise UserError(f"{self.path}: {len(rows)} rows {problem} ({first}); write the outputs again")

    def batches(self, rows: int = ROW_GROUP) -> Iterator[Outputs]:
        """The outputs in order, at most `rows` at a time.

        Raises:
            UserError: a column of another type, of several widths, or not finite.
        """
        for batch in self._file.iter_batches(rows):
            yield self._outputs(pa.Table.from_batches([batch]))

    def load(self) -> Outputs:
        """All of them at once; raises as `batches` does."""
        return self._outputs(self._file.read())

    def _outputs(self, table: pa.Table) -> Outputs:
        if nulls := sum(table.column(name).null_count for name in ("logits", *self.score_names)):
            raise UserError(f"{self.path}: {nulls} logits or scores are null; write the outputs again")
        logits = _matrix(self.path, table.column("logits"), "logits")
        try:
            labels = torch.from_numpy(table.column("label").to_numpy().astype(np.int64))
            scores = {name: table.column(name).to_numpy().astype(np.float64) for name in self.score_names}
        except (ValueError, TypeError) as error:
            raise UserError(f"{self.path}: {one_line(error)}; expected numbers, see artifacts/outputs.py") from None
        if int(labels.max()) >= logits.shape[1] or int(labels.min()) < -1:
            raise UserError(
                f"{self.path}: labels {int(labels.min())} to {int(labels.max())}, expected -1 for OOD or one of "
                f"{logits.shape[1]} classes; write the outputs again"
            )
        return Outputs(
            keys=[str(key) for key in table.column("key").to_pylist()],
            labels=labels,
            logits=logits,
            features=_matrix(self.path, table.column("features"), "features")
            if "features" in table.column_names
            else None,
            scores=scores,
        )


def find(folder: Path) -> dict[str, OutputFile]:
    """Every set of a model's folder by name: the ID splits that are there, then the other sets.

    Raises:
        UserError: no `test.parquet`, two sets of one name, or a parquet file that is no set; and as `OutputFile`.
    """
    _refuse_strays(folder)
    paths: list[tuple[Path, Role]] = [(folder / f"{split}.parquet", "id") for split in SPLITS]
    paths = [(path, role) for path, role in paths if path.is_file()]
    for role in ROLES:
        paths += [(path, role) for path in sorted((folder / role).glob("*.parquet"))]
    names = [path.stem for path, _ in paths]
    if "test" not in names:
        raise UserError(f"{folder / 'test.parquet'}: not found; run `dvc repro infer`, or see artifacts/outputs.py")
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"{folder}: two sets of one name, {sorted(twice)}; rename one")
    return {path.stem: OutputFile(path, role) for path, role in paths}


def _refuse_strays(folder: Path) -> None:
    """Stop at a parquet file, or a folder with some, that is none of the sets."""
    names = [*(f"{split}.parquet" for split in SPLITS), "head.parquet"]
    for path in sorted(folder.rglob("*.parquet")):
        first, *rest = path.relative_to(folder).parts
        if first.startswith(".") or (first in ROLES and len(rest) == 1) or (first in names and not rest):
            continue
        stray = path.parent.name if first in ROLES else first
        hint = like(stray, ROLES if rest else names)
        expected = f"{', '.join(names)}, or SET.parquet in {', '.join(ROLES)}"
        raise UserError(f"{path}: {stray} is no part of a model's outputs{hint}; expected {expected}")


def load_head(folder: Path) -> Head | None:
    """The last layer, if the folder has it.

    Raises:
        UserError: unreadable, or not a last layer.
    """
    path = folder / "head.parquet"
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path)
        return Head(_matrix(path, table.column("weight"), "weight"), torch.tensor(table.column("bias").to_pylist()))
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a last layer ({one_line(error)}); see artifacts/outputs.py") from None
