"""Candidates of one method: latents or images and where they come from, before any filter. Arrow IPC, a row each.

Columns: `index` (row i depends on the seed and i alone), `parent_a` and `parent_b` (class indices, equal where there is
one parent, -1 where there is none), `strength` (in the unit of its method), `source` (row of the ID training image it
started from, -1 where there is none), and one of `latent` = fixed-size list of float32, raw, or `pixels` = fixed-size
list of uint8. The schema's metadata holds its shape, and a digest of all that the candidates were made from.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.artifacts.tables import column_tensor, read_table, tensor_column, write_tables


@dataclass(frozen=True)
class Candidates:
    """n candidates.

    Attributes:
        kind: whether they were drawn as latents or as images.
        values: raw latents, float32 (n, C, h, w), or pixels, uint8 (n, channels, size, size).
        parents: int64 (n, 2).
        strength: float32 (n,).
        source: int64 (n,).
    """

    kind: Literal["latent", "pixels"]
    values: Tensor
    parents: Tensor
    strength: Tensor
    source: Tensor

    @classmethod
    def of_latents(cls, raw_latents: Tensor, parents: Tensor, strength: Tensor, source: Tensor) -> "Candidates":
        """Candidates that were drawn as latents."""
        return cls("latent", raw_latents, parents, strength, source)

    @classmethod
    def of_images(cls, pixels: Tensor, labels: Tensor, strength: Tensor, source: Tensor) -> "Candidates":
        """Images made of one ID image each, of these labels."""
        return cls("pixels", pixels, labels[:, None].repeat(1, 2), strength, source)

    @classmethod
    def of_pairs(
        cls, images: Sequence[np.ndarray], rows: Sequence[tuple[int, int]], shares: Sequence[float], labels: Tensor
    ) -> "Candidates":
        """Images made of two ID images each: their rows, the share of the first, and the labels of all ID images."""
        pairs = torch.tensor(rows)
        strength = torch.tensor(shares, dtype=torch.float32)
        return cls("pixels", torch.from_numpy(np.stack(images)), labels[pairs], strength, pairs[:, 0])

    @classmethod
    def of_nothing(cls, pixels: Tensor) -> "Candidates":
        """Images that were made of no ID image."""
        none = torch.full((len(pixels), 2), -1)
        return cls("pixels", pixels, none, torch.zeros(len(pixels)), none[:, 0])

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: slice) -> "Candidates":
        return Candidates(self.kind, self.values[rows], self.parents[rows], self.strength[rows], self.source[rows])

    def columns(self) -> dict[str, Tensor]:
        """The values under the name of their kind, and what is known of them."""
        rest = {"parents": self.parents, "strength": self.strength, "source": self.source}
        return {self.kind: self.values, **rest}

    @classmethod
    def of_columns(cls, columns: dict[str, Tensor]) -> "Candidates":
        """The inverse of `columns`."""
        kind: Literal["latent", "pixels"] = "latent" if "latent" in columns else "pixels"
        return cls(kind, columns[kind], columns["parents"], columns["strength"], columns["source"])


def write(path: Path, candidates: Candidates, made_from: str) -> None:
    """Write one Arrow IPC file; `made_from` is the digest of all that they were made from."""
    values = candidates.values
    columns = {
        "index": pa.array(range(len(candidates)), pa.int64()),
        "parent_a": pa.array(candidates.parents[:, 0].tolist(), pa.int64()),
        "parent_b": pa.array(candidates.parents[:, 1].tolist(), pa.int64()),
        "strength": pa.array(candidates.strength.tolist(), pa.float32()),
        "source": pa.array(candidates.source.tolist(), pa.int64()),
        candidates.kind: tensor_column(values),
    }
    write_tables(path, [pa.table(columns)], {"shape": list(values.shape[1:]), "made_from": made_from})


def made_from(path: Path) -> str | None:
    """The digest of all that the candidates of a file were made from; None where there is no such file."""
    try:
        with pa.memory_map(str(path)) as source:
            metadata = pa.ipc.open_file(source).schema.metadata
        return json.loads(metadata[b"penumbra"])["made_from"]
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None


def load(path: Path) -> Candidates:
    """Read candidates.

    Raises:
        UserError: the file is missing or of another format.
    """
    table, about = read_table(path, "sample")
    parents = [table.column(name).to_pylist() for name in ("parent_a", "parent_b")]
    kind: Literal["latent", "pixels"] = "latent" if "latent" in table.column_names else "pixels"
    dtype = np.float32 if kind == "latent" else np.uint8
    return Candidates(
        kind=kind,
        values=column_tensor(table.column(kind), tuple(about["shape"]), dtype),
        parents=torch.tensor(parents).T.reshape(-1, 2),
        strength=torch.tensor(table.column("strength").to_pylist()),
        source=torch.tensor(table.column("source").to_pylist()),
    )
