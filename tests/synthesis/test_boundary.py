import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from pipeline import boundary as stage
from pipeline.artifacts.latents import Latents
from pipeline.synthesis import boundary


def kth(points: np.ndarray, latents: np.ndarray, k: int) -> np.ndarray:
    return np.sort(cdist(points, latents), axis=1)[:, k - 1]


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 40), st.integers(2, 20), st.integers(2, 12), st.integers(0, 2**31))
def test_kept_are_exactly_the_top_ones_of_their_own_anchor(n: int, d: int, draws: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(n, d, generator=generator) * 3 + 50
    noise = torch.randn(draws, d, generator=generator)
    k, keep = 1 + seed % (n - 1), 1 + seed % draws
    anchors = boundary.find_anchors(latents, k, 4)
    kept = boundary.perturb(latents, anchors, noise, k, keep).latents
    for row, own in zip(anchors.tolist(), kept, strict=True):
        candidates = (latents[row] + noise).double().numpy()
        distances = kth(candidates, latents.double().numpy(), k)
        expected = np.sort(distances)[::-1][:keep]
        np.testing.assert_allclose(kth(own.double().numpy(), latents.double().numpy(), k), expected, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(6, 50), st.integers(1, 10), st.integers(0, 2**31))
def test_anchors_are_the_outermost_latents(n: int, d: int, seed: int) -> None:
    latents = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    k = 1 + seed % (n - 2)
    distances = np.sort(cdist(latents.double(), latents.double()), axis=1)[:, k]  # column 0 is the latent itself
    anchors = boundary.find_anchors(latents, k, 5).tolist()
    np.testing.assert_allclose(distances[anchors], np.sort(distances)[::-1][:5], rtol=1e-5)


def params(**changes: object) -> stage.Params:
    values = {"count": 60, "neighbours": 3, "anchors": 4, "draws": 6, "keep": 2, "sigmas": [1.0, 2.0]} | changes
    return stage.Params.model_validate(values)


@pytest.fixture
def encoded() -> Latents:
    generator = torch.Generator().manual_seed(1)
    mean = torch.randn(45, 2, 3, 3, generator=generator) * torch.tensor([0.1, 10.0]).view(1, 2, 1, 1)
    labels = torch.arange(45) % 3
    return Latents([f"image-{i}" for i in range(45)], labels, mean, torch.zeros_like(mean))


def test_a_larger_count_only_appends(encoded: Latents) -> None:
    few, many = stage.sample(encoded, params(count=37), seed=5), stage.sample(encoded, params(count=120), seed=5)
    assert torch.equal(few.raw_latents, many.raw_latents[:37])
    assert few.source == many.source[:37]


def test_every_prefix_is_balanced_over_classes_and_sigmas(encoded: Latents) -> None:
    sampled = stage.sample(encoded, params(count=60), seed=5)
    for end in (6, 12, 60):
        assert sampled.parents[:end, 0].bincount().tolist() == [end // 3] * 3
        assert int((sampled.strength[:end] == 1.0).sum()) == end // 2


def test_candidates_lie_sigma_standard_deviations_from_their_source(encoded: Latents) -> None:
    sampled = stage.sample(encoded, params(count=240, draws=1, keep=1), seed=5)
    rows = [encoded.keys.index(key) for key in sampled.source]
    moved = (sampled.raw_latents - encoded.mean[rows]).flatten(1) / encoded.mean.flatten(1).std(dim=0)
    for sigma in (1.0, 2.0):
        assert float(moved[sampled.strength == sigma].std()) == pytest.approx(sigma, rel=0.05)
    assert encoded.labels[rows].tolist() == sampled.parents[:, 0].tolist()


def test_seeds_differ(encoded: Latents) -> None:
    first, second = stage.sample(encoded, params(), seed=0), stage.sample(encoded, params(), seed=1)
    assert not torch.equal(first.raw_latents, second.raw_latents)


def test_kept_are_their_anchors_top_percentile_where_the_released_indexing_picks_at_random() -> None:
    """The released code lays candidates out anchor by anchor and reads their distances draw by draw."""
    n, d, k, anchors, draws, keep = 200, 64, 20, 20, 400, 2
    generator = torch.Generator().manual_seed(0)
    latents = torch.nn.functional.normalize(torch.randn(n, d, generator=generator))
    noise = 0.07 * torch.randn(draws, d, generator=generator)
    rows = boundary.find_anchors(latents, k, anchors)
    candidates = (latents[rows][:, None] + noise).double().numpy()  # (anchors, draws, d)
    distances = kth(candidates.reshape(-1, d), latents.double().numpy(), k)

    def percentile(anchor: int, value: float) -> float:
        return 100 * (distances.reshape(anchors, draws)[anchor] <= value).mean()

    kept = boundary.perturb(latents, rows, noise, k, keep).latents.double().numpy()
    ours = [percentile(a, value) for a in range(anchors) for value in kth(kept[a], latents.double().numpy(), k)]
    column_wise = distances.reshape(draws, anchors)  # should be (anchors, draws)
    picked = np.argsort(-column_wise, axis=0)[:keep]  # the top rows of each column
    gathered = (np.arange(anchors) * draws + picked).flatten()  # and then column * draws + row
    released = [percentile(i // draws, distances[i]) for i in gathered]
    assert min(ours) >= 99
    assert 35 < np.mean(released) < 65
