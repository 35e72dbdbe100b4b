"""Distance to the k-th nearest neighbour, exact, in chunks of bounded memory."""

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2**24  # distances held at once: 64 MiB of float32
SPARE = 8  # neighbours beyond the k-th that are measured exactly, so that a product in float32 decides nothing
ROUNDING = 1e-4  # of the squared lengths: far above the rounding of a float32 product


class Neighbours:
    """Reference vectors, prepared for many queries.

    One product in float32 ranks them; the nearest few are then measured by their differences in float64. Where
    rounding could have kept a nearer one out, all are measured in float64.

    Args:
        references: (m, d).
    """

    def __init__(self, references: Tensor):
        # small vectors lose fewer digits in the product
        self.centre = references.mean(dim=0, dtype=torch.float64).float()
        self.references = references.float() - self.centre
        self.squares = self.references.square().sum(dim=1)

    def kth_distance(self, queries: Tensor, k: int) -> Tensor:
        """Euclidean distance of each query to its k-th nearest reference, k = 1 for the nearest.

        A query that is itself a reference counts as its own first neighbour.

        Args:
            queries: (n, d).
            k: at most m.

        Returns:
            (n,), in the dtype of `queries`.
        """
        chunks = (queries.float() - self.centre).split(max(1, CHUNK_ELEMENTS // len(self.references)))
        return torch.cat([self._squared(chunk, k) for chunk in chunks]).sqrt().to(queries.dtype)

    def _squared(self, queries: Tensor, k: int) -> Tensor:
        lengths = queries.square().sum(dim=1)
        ranked = torch.addmm(self.squares, queries, self.references.T, alpha=-2)  # less the query's length
        near = ranked.topk(min(k + SPARE, len(self.references)), dim=1, largest=False)
        differences = queries.double()[:, None] - self.references[near.indices].double()
        found = differences.square().sum(dim=2).sort(dim=1).values[:, k - 1]
        left_out = near.values.amax(dim=1) + lengths - ROUNDING * (lengths + self.squares.max())  # none is nearer
        unsure = torch.nonzero(~(left_out >= found)).flatten()  # not finite is unsure too
        if len(unsure) and k + SPARE < len(self.references):
            found[unsure] = _squared_exactly(queries[unsure], self.references, k)
        return found


def _squared_exactly(queries: Tensor, references: Tensor, k: int) -> Tensor:
    """The same by one product in float64 that keeps enough digits, for the few queries that need it."""
    references, queries = references.double(), queries.double()
    squares = queries.square().sum(dim=1)[:, None] + references.square().sum(dim=1)
    return torch.addmm(squares, queries, references.T, alpha=-2).clamp_min(0).kthvalue(k, dim=1).values


def kth_distance(queries: Tensor, references: Tensor, k: int) -> Tensor:
    """`Neighbours.kth_distance` for references that are asked once."""
    return Neighbours(references).kth_distance(queries, k)
