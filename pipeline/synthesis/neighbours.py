"""Distance to the k-th nearest neighbour, exact, in chunks of bounded memory."""

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2**24  # distances held at once: 64 MiB of float32


def squared_distances(queries: Tensor, references: Tensor) -> Tensor:
    """Squared Euclidean distances (n, m) of float (n, d) to (m, d), by one matrix product."""
    squares = queries.square().sum(dim=1)[:, None] + references.square().sum(dim=1)
    return torch.addmm(squares, queries, references.T, alpha=-2).clamp_min(0)


def kth_distance(queries: Tensor, references: Tensor, k: int) -> Tensor:
    """Euclidean distance of each query to its k-th nearest reference, k = 1 for the nearest.

    A query that is itself a reference counts as its own first neighbour. Computed in float64: the product
    form of the distance loses too many digits in float32 near 0.

    Args:
        queries: (n, d).
        references: (m, d), m >= k.

    Returns:
        (n,), in the dtype of `queries`.
    """
    centre = references.double().mean(dim=0)
    references = references.double() - centre
    chunks = (queries.double() - centre).split(max(1, CHUNK_ELEMENTS // len(references)))
    parts = [squared_distances(chunk, references).kthvalue(k, dim=1).values for chunk in chunks]
    return torch.cat(parts).sqrt().to(queries.dtype)
