"""Nearest of 50,000 ID images for 500 candidates, as `shards` asks for it, against what a user would write.

`pytest tests/benchmarks/test_neighbours.py --benchmark-only`.
"""

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from pipeline.synthesis.neighbours import Neighbours

REFERENCES, QUERIES, WIDTH = 50_000, 500, 3072


def in_float64(queries: Tensor, references: Tensor) -> np.ndarray:
    """The product form of the distance, all of it in float64, as this project did before."""
    references, queries = references.double(), queries.double()
    squares = references.square().sum(dim=1)
    parts = [
        torch.addmm(squares, chunk, references.T, alpha=-2).amin(dim=1) + chunk.square().sum(dim=1)
        for chunk in queries.split(300)
    ]
    return torch.cat(parts).clamp_min(0).sqrt().numpy()


def scikit_learn(queries: Tensor, references: Tensor) -> np.ndarray:
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(references.numpy())
    return search.kneighbors(queries.numpy())[0][:, 0]


def ours(queries: Tensor, references: Tensor) -> np.ndarray:
    return Neighbours(references).kth_distance(queries, 1).numpy()


@pytest.mark.parametrize("method", [in_float64, scikit_learn, ours])
def test_nearest(benchmark: BenchmarkFixture, method) -> None:
    generator = torch.Generator().manual_seed(0)
    references = torch.randint(0, 256, (REFERENCES, WIDTH), generator=generator).float()
    queries = references[:QUERIES] + torch.randn(QUERIES, WIDTH, generator=generator)
    found = benchmark.pedantic(method, (queries, references), rounds=2, warmup_rounds=0)
    exact = (queries - references[:QUERIES]).double().norm(dim=1)
    np.testing.assert_allclose(found, exact, rtol=1e-3)
