"""Candidate outliers: raw latents and where they come from, before any filter. Arrow IPC, a row a candidate.

Columns: `index` (row i depends on the seed and i alone), `parent_a` and `parent_b` (class indices, equal where
there is one parent), `strength` (in the unit of its method: `outliers.STRENGTH`), `source` (row of the ID training
image it started from, -1 where there is none), `latent` = fixed-size list of float32, raw.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from pipeline.artifacts.tables import column_tensor, read_table, tensor_column, write_tables
from pipeline.runtime.console import say
from pipeline.runtime.files import replacing
from pipeline.runtime.layout import CANDIDATES
from pipeline.runtime.processes import is_first
from pipeline.runtime.resumable import parts, ranges


@dataclass(frozen=True)
class Candidates:
    """Candidates: raw latents float32 (n, C, h, w), parents int64 (n, 2), strength float32 (n,), source int64 (n,)."""

    raw_latents: Tensor
    parents: Tensor
    strength: Tensor
    source: Tensor

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: slice) -> "Candidates":
        return Candidates(self.raw_latents[rows], self.parents[rows], self.strength[rows], self.source[rows])


Method = Callable[[range], Candidates]  # every synthesis method: the candidates of consecutive indices


def produce(name: str, method: Method, count: int, batch: int, identity: Any) -> None:
    """Write the first `count` candidates of a method, made `batch` at a time, to data/candidates/NAME.arrow.

    Processes share the batches. A killed run goes on at its first unfinished one and ends with the same bytes.

    Args:
        identity: JSON that decides the candidates: settings, seed, hashes of models.
    """
    pieces = ranges(count, batch)
    folder = CANDIDATES / f".{name}.parts"
    with parts(folder, identity, len(pieces), lambda i: vars(method(pieces[i])), name) as made:
        if is_first():
            with replacing(CANDIDATES / f"{name}.arrow") as path:
                write(path, Candidates(**made.whole()))
    say(f"{name}: {count} candidates")


def leave_out(name: str) -> None:
    """Write the file of a method that is to make no candidates, so that later stages find it."""
    if is_first():
        nothing = torch.empty(0, dtype=torch.int64)
        with replacing(CANDIDATES / f"{name}.arrow") as path:
            write(path, Candidates(torch.empty(0, 1, 1, 1), nothing.view(0, 2), torch.empty(0), nothing))
    say(f"{name}: left out, for its count is 0")


def write(path: Path, candidates: Candidates) -> None:
    """Write one Arrow IPC file."""
    columns = {
        "index": pa.array(range(len(candidates)), pa.int64()),
        "parent_a": pa.array(candidates.parents[:, 0].tolist(), pa.int64()),
        "parent_b": pa.array(candidates.parents[:, 1].tolist(), pa.int64()),
        "strength": pa.array(candidates.strength.tolist(), pa.float32()),
        "source": pa.array(candidates.source.tolist(), pa.int64()),
        "latent": tensor_column(candidates.raw_latents),
    }
    write_tables(path, [pa.table(columns)], {"shape": list(candidates.raw_latents.shape[1:])})


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
        source=torch.tensor(table.column("source").to_pylist()),
    )
