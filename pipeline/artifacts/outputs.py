"""What a model said of a set of images: parquet, a row an image, all that scoring needs.

`<set>.parquet` has `key`, `label` (-1 for OOD), `logits` and `features` (lists of float32); the schema's
metadata holds the set's role. `head.parquet` has a row a class, `weight` and `bias`: the last layer.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from pipeline.artifacts.images import Role
from pipeline.artifacts.tables import column_tensor, tensor_column
from pipeline.errors import UserError


@dataclass(frozen=True)
class Outputs:
    """Logits float32 (n, classes), features float32 (n, d), labels int64 (n,), n keys, and the set's role."""

    keys: list[str]
    labels: Tensor
    logits: Tensor
    features: Tensor
    role: Role

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Head:
    """The last layer: logits = features @ weight.T + bias; float32 (classes, d) and (classes,)."""

    weight: Tensor
    bias: Tensor


def concatenate(parts: Sequence[Outputs]) -> Outputs:
    """The images of several sets as one, with the first one's role."""
    labels, logits, features = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("labels", "logits", "features")
    )
    return Outputs([key for part in parts for key in part.keys], labels, logits, features, parts[0].role)


def write(path: Path, outputs: Outputs) -> None:
    """Write the outputs of one set."""
    columns = {
        "key": pa.array(outputs.keys),
        "label": pa.array(outputs.labels.tolist(), pa.int64()),
        "logits": tensor_column(outputs.logits),
        "features": tensor_column(outputs.features),
    }
    table = pa.table(columns).replace_schema_metadata({"penumbra": json.dumps({"role": outputs.role})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def write_head(path: Path, head: Head) -> None:
    """Write the last layer."""
    pq.write_table(pa.table({"weight": tensor_column(head.weight), "bias": head.bias.numpy()}), path)


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run `dvc repro infer`, or `dvc pull`") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not readable ({error}); run `dvc repro infer`") from None


def _matrix(path: Path, table: pa.Table, name: str) -> Tensor:
    column = table.column(name)
    widths = set(column.combine_chunks().value_lengths().to_pylist())
    if len(widths) != 1:
        raise UserError(f"{path}: {name} of lengths {sorted(widths)}, expected one length; write the outputs again")
    values = column_tensor(column, tuple(widths))
    if not torch.isfinite(values).all():
        raise UserError(f"{path}: {name} has NaN or infinite values; train the model again, with a lower learning rate")
    return values


def load(path: Path) -> Outputs:
    """Read the outputs of one set.

    Raises:
        UserError: missing, empty, of another schema, or not finite.
    """
    table = _read(path)
    missing = {"key", "label", "logits", "features"} - set(table.column_names)
    if missing or table.num_rows == 0:
        raise UserError(f"{path}: {table.num_rows} rows, without columns {sorted(missing)}; see artifacts/outputs.py")
    role = json.loads((table.schema.metadata or {}).get(b"penumbra", b"{}")).get("role")
    if role not in get_args(Role):
        raise UserError(f"{path}: role {role!r} in the schema's metadata, expected one of {', '.join(get_args(Role))}")
    return Outputs(
        keys=table.column("key").to_pylist(),
        labels=torch.tensor(table.column("label").to_pylist()),
        logits=_matrix(path, table, "logits"),
        features=_matrix(path, table, "features"),
        role=role,
    )


def load_head(path: Path) -> Head:
    """Read the last layer."""
    table = _read(path)
    return Head(_matrix(path, table, "weight"), torch.tensor(table.column("bias").to_pylist()))
