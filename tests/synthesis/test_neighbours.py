import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from pipeline.synthesis import neighbours


def brute_force(queries: torch.Tensor, references: torch.Tensor, k: int) -> np.ndarray:
    search = NearestNeighbors(n_neighbors=k, algorithm="brute", n_jobs=1).fit(references.double().numpy())
    return search.kneighbors(queries.double().numpy())[0][:, -1]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 30), st.integers(0, 2**32 - 1), st.floats(-100, 100))
def test_kth_distance_equals_brute_force(n: int, m: int, d: int, seed: int, offset: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(n, d, generator=generator) + offset
    references = torch.randn(m, d, generator=generator) + offset
    k = 1 + seed % m
    found = neighbours.kth_distance(queries, references, k)
    np.testing.assert_allclose(found.numpy(), brute_force(queries, references, k), rtol=1e-5, atol=1e-5)


def test_a_reference_is_its_own_first_neighbour() -> None:
    points = torch.randn(20, 5, generator=torch.Generator().manual_seed(0)) + 1000
    assert neighbours.kth_distance(points, points, 1).max() < 1e-4
    np.testing.assert_allclose(neighbours.kth_distance(points, points, 2), brute_force(points, points, 2), rtol=1e-4)


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, references = torch.randn(50, 8, generator=generator), torch.randn(30, 8, generator=generator)
    whole = neighbours.kth_distance(queries, references, 4)
    monkeypatch.setattr(neighbours, "CHUNK_ELEMENTS", 7 * 30)
    torch.testing.assert_close(neighbours.kth_distance(queries, references, 4), whole)


@pytest.mark.parametrize("k", [1, 5, 12])
def test_queries_that_rounding_leaves_unsure_are_measured_exactly(k: int) -> None:
    """Two far clusters of near ties: a float32 product cannot rank within one."""
    generator = torch.Generator().manual_seed(k)
    centres = torch.tensor([[1e4], [-1e4]]).repeat(50, 30)
    references = centres + 1e-2 * torch.randn(100, 30, generator=generator)
    queries = centres[:10] + 1e-2 * torch.randn(10, 30, generator=generator)
    found = neighbours.kth_distance(queries, references, k)
    np.testing.assert_allclose(found.numpy(), brute_force(queries, references, k), rtol=0.02)


def test_a_query_that_is_not_finite_harms_no_other() -> None:
    references = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    queries = references[:3].clone()
    queries[1, 2] = float("nan")
    found = neighbours.kth_distance(queries, references, 3)
    assert found.isnan().tolist() == [False, True, False]
    np.testing.assert_allclose(found[[0, 2]].numpy(), brute_force(queries[[0, 2]], references, 3), rtol=1e-5)
