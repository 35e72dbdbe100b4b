"""Tensors in Arrow columns, and Arrow IPC files that are read through a memory map."""

import json
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.runtime.errors import UserError


def tensor_column(values: Tensor) -> pa.Array:
    """(n, ...) float32 or uint8 as an Arrow column of fixed-size lists, without a copy."""
    flat = values.detach().cpu().contiguous().numpy()
    width = int(np.prod(flat.shape[1:]))
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), width)


def column_tensor(column: pa.ChunkedArray, shape: tuple[int, ...], dtype: Any = np.float32) -> Tensor:
    """The inverse of `tensor_column`: a tensor (n, *shape), the one copy that is made."""
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    none = np.empty(0, dtype)  # a column may have no chunk
    return torch.from_numpy(np.concatenate([none, *flat], dtype=dtype, casting="unsafe")).view(-1, *shape)


def write_tables(path: Path, tables: Iterable[pa.Table], about: dict) -> None:
    """Write tables of one schema as one Arrow IPC file with JSON metadata."""
    metadata = {"penumbra": json.dumps(about, sort_keys=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        writer, sink = None, stack.enter_context(pa.OSFile(str(path), "wb"))
        for table in tables:
            writer = writer or stack.enter_context(pa.ipc.new_file(sink, table.schema.with_metadata(metadata)))
            writer.write_table(table.replace_schema_metadata(metadata))


def read_table(path: Path, stage: str) -> tuple[pa.Table, dict]:
    """Memory-map an Arrow IPC file written by `write_tables`.

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
