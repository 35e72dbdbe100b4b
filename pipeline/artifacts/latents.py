"""ID latents: Arrow IPC files, memory-mapped, one row per image.

Columns: `key`, `label`, `mean` and `std` = fixed-size lists of float32, raw latents (unscaled) flattened from
(C, h, w); `std` is 0 for an autoencoder without a posterior. The schema's metadata holds the shape.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from pipeline.artifacts.tables import column_tensor, read_table, tensor_column, write_tables


@dataclass(frozen=True)
class Latents:
    """Raw latents of a set, or of a part of it: mean and std float32 (n, C, h, w), labels int64 (n,), n keys."""

    keys: list[str]
    labels: Tensor
    mean: Tensor
    std: Tensor


def write(path: Path, parts: Iterable[Latents], shape: Sequence[int]) -> None:
    """Write one Arrow IPC file, a part at a time; `shape` is that of one latent, (C, h, w)."""
    write_tables(path, map(_table, parts), {"shape": list(shape)})


def _table(latents: Latents) -> pa.Table:
    columns = {
        "key": pa.array(latents.keys),
        "label": pa.array(latents.labels.tolist(), pa.int64()),
        "mean": tensor_column(latents.mean),
        "std": tensor_column(latents.std),
    }
    return pa.table(columns)


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
