"""ID latents: Arrow IPC files, memory-mapped, a row an image.

Columns: `key`, `label`, `mean` and `std` = fixed-size lists of float32, raw latents (unscaled) flattened from
(C, h, w); `std` is 0 for an autoencoder without a posterior. The schema's metadata holds the shape.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.errors import UserError


@dataclass(frozen=True)
class Latents:
    """Raw latents of a set: mean and std float32 (n, C, h, w), labels int64 (n,), n keys."""

    keys: list[str]
    labels: Tensor
    mean: Tensor
    std: Tensor


def tensor_column(values: Tensor) -> pa.Array:
    """(n, ...) float32 as an Arrow column of fixed-size lists, without a copy."""
    flat = values.detach().cpu().contiguous().float().numpy()
    width = int(np.prod(flat.shape[1:]))
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), width)


def column_tensor(column: pa.ChunkedArray, shape: tuple[int, ...]) -> Tensor:
    """The inverse of `tensor_column`: a float32 tensor (n, *shape)."""
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return torch.from_numpy(np.array(flat, dtype=np.float32)).view(-1, *shape)


def write(path: Path, latents: Latents) -> None:
    """Write one Arrow IPC file."""
    shape = list(latents.mean.shape[1:])
    columns = {
        "key": pa.array(latents.keys),
        "label": pa.array(latents.labels.tolist(), pa.int64()),
        "mean": tensor_column(latents.mean),
        "std": tensor_column(latents.std),
    }
    write_table(path, pa.table(columns), {"shape": shape})


def write_table(path: Path, table: pa.Table, about: dict) -> None:
    """Write a table as Arrow IPC with JSON metadata."""
    table = table.replace_schema_metadata({"penumbra": json.dumps(about, sort_keys=True)})
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_table(path: Path, stage: str) -> tuple[pa.Table, dict]:
    """Memory-map an Arrow IPC file written by `write_table`.

    Raises:
        UserError: missing or of another format; `stage` is what to run.
    """
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        return table, json.loads((table.schema.metadata or {})[b"penumbra"])
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run `dvc repro {stage}`, or `dvc pull`") from None
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path}: not readable ({error}); run `dvc repro {stage}`") from None


def load(path: Path) -> Latents:
    """Read ID latents.

    Raises:
        UserError: the file is missing or of another format.
    """
    table, about = read_table(path, "encode")
    shape = tuple(about["shape"])
    return Latents(
        keys=table.column("key").to_pylist(),
        labels=torch.tensor(table.column("label").to_pylist()),
        mean=column_tensor(table.column("mean"), shape),
        std=column_tensor(table.column("std"), shape),
    )
