"""Candidate outliers: raw latents and where they come from, before any filter. Arrow IPC, a row a candidate.

Columns: `index` (row i depends on the seed and i alone), `parent_a` and `parent_b` (class indices, equal where
there is one parent), `strength` (sigma of a perturbation, or parent a's share of a mixture), `source` (key of
the ID image it started from, empty where there is none), `latent` = fixed-size list of float32, raw.
"""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from pipeline.artifacts.tables import column_tensor, read_table, tensor_column, write_table


@dataclass(frozen=True)
class Candidates:
    """n candidates: raw latents float32 (n, C, h, w), parents int64 (n, 2), strength float32 (n,), n sources."""

    raw_latents: Tensor
    parents: Tensor
    strength: Tensor
    source: list[str]

    def __len__(self) -> int:
        return len(self.source)


def write(path: Path, candidates: Candidates) -> None:
    """Write one Arrow IPC file."""
    columns = {
        "index": pa.array(range(len(candidates)), pa.int64()),
        "parent_a": pa.array(candidates.parents[:, 0].tolist(), pa.int64()),
        "parent_b": pa.array(candidates.parents[:, 1].tolist(), pa.int64()),
        "strength": pa.array(candidates.strength.tolist(), pa.float32()),
        "source": pa.array(candidates.source, pa.string()),
        "latent": tensor_column(candidates.raw_latents),
    }
    write_table(path, pa.table(columns), {"shape": list(candidates.raw_latents.shape[1:])})


def load(path: Path) -> Candidates:
    """Read candidates.

    Raises:
        UserError: the file is missing or of another format.
    """
    table, about = read_table(path, path.stem)
    parents = [table.column(name).to_pylist() for name in ("parent_a", "parent_b")]
    return Candidates(
        raw_latents=column_tensor(table.column("latent"), tuple(about["shape"])),
        parents=torch.tensor(parents).T.reshape(-1, 2),
        strength=torch.tensor(table.column("strength").to_pylist()),
        source=table.column("source").to_pylist(),
    )
