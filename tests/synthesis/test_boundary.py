import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from pipeline.settings.neighbourhood import NeighbourhoodSettings
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
    kept = boundary.perturb(latents, anchors, noise, k, keep, unit_sphere=False)
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


def settings_of(**changes: object) -> NeighbourhoodSettings:
    values = {
        "neighbours": 3,
        "anchors": 4,
        "perturbations": 6,
        "kept_per_anchor": 2,
        "sigmas": [1.0, 2.0],
        "unit_sphere": False,
    }
    return NeighbourhoodSettings.model_validate(values | changes)


VECTORS = torch.randn(45, 18, generator=torch.Generator().manual_seed(1)) * torch.tensor([0.1] * 9 + [10.0] * 9)
LABELS = torch.arange(45) % 3


def draw(count: int, seed: int = 5, **changes: object) -> boundary.Outliers:
    return boundary.Sampler(VECTORS, LABELS, settings_of(**changes), seed, "boundary").sample(range(count))


@pytest.mark.parametrize("unit_sphere", [False, True])
def test_outlier_i_depends_on_seed_and_i_alone(unit_sphere: bool) -> None:
    sampler = boundary.Sampler(VECTORS, LABELS, settings_of(unit_sphere=unit_sphere), 5, "boundary")
    whole = sampler.sample(range(120))
    for part in (range(37), range(30, 50), range(47, 49), range(96, 120)):
        found = sampler.sample(part)
        for name, column in vars(found).items():
            assert torch.equal(column, getattr(whole, name)[part.start : part.stop])


def test_every_prefix_is_balanced_over_classes_and_sigmas() -> None:
    sampled = draw(60)
    for end in (6, 12, 60):
        assert sampled.labels[:end].bincount().tolist() == [end // 3] * 3
        assert int((sampled.sigma[:end] == 1.0).sum()) == end // 2


def test_outliers_lie_sigma_standard_deviations_from_their_source() -> None:
    sampled = draw(240, perturbations=1, kept_per_anchor=1)
    moved = (sampled.vectors - VECTORS[sampled.source]) / VECTORS.std(dim=0)
    for sigma in (1.0, 2.0):
        assert float(moved[sampled.sigma == sigma].std()) == pytest.approx(sigma, rel=0.05)
    assert torch.equal(LABELS[sampled.source], sampled.labels)


def test_on_the_unit_sphere_outliers_have_their_sources_length() -> None:
    sampled = draw(48, unit_sphere=True)
    torch.testing.assert_close(sampled.vectors.norm(dim=1), VECTORS[sampled.source].norm(dim=1))
    cosines = torch.nn.functional.cosine_similarity(sampled.vectors, VECTORS[sampled.source])
    assert float(cosines.max()) < 0.99


def test_seeds_and_sections_differ() -> None:
    first = draw(10).vectors
    assert not torch.equal(first, draw(10, seed=6).vectors)
    other = boundary.Sampler(VECTORS, LABELS, settings_of(), 5, "embedding").sample(range(10)).vectors
    assert not torch.equal(first, other)


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 40), st.integers(2, 20), st.integers(2, 12), st.integers(0, 2**31))
def test_on_the_unit_sphere_too_the_kept_are_the_top_ones(n: int, d: int, draws: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.nn.functional.normalize(torch.randn(n, d, generator=generator))
    noise = 0.3 * torch.randn(draws, d, generator=generator)
    k, keep = 1 + seed % (n - 1), 1 + seed % draws
    rows = boundary.find_anchors(vectors, k, 4)
    kept = boundary.perturb(vectors, rows, noise, k, keep, unit_sphere=True)
    for row, own in zip(rows.tolist(), kept, strict=True):
        candidates = (vectors[row] + noise).double()
        candidates = (candidates / candidates.norm(dim=1, keepdim=True)).numpy()
        expected = np.sort(kth(candidates, vectors.double().numpy(), k))[::-1][:keep]
        np.testing.assert_allclose(kth(own.double().numpy(), vectors.double().numpy(), k), expected, rtol=1e-5)


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

    kept = boundary.perturb(latents, rows, noise, k, keep, unit_sphere=False).double().numpy()
    ours = [percentile(a, value) for a in range(anchors) for value in kth(kept[a], latents.double().numpy(), k)]
    column_wise = distances.reshape(draws, anchors)  # should be (anchors, draws)
    picked = np.argsort(-column_wise, axis=0)[:keep]  # the top rows of each column
    gathered = (np.arange(anchors) * draws + picked).flatten()  # and then column * draws + row
    released = [percentile(i // draws, distances[i]) for i in gathered]
    assert min(ours) >= 99
    assert 35 < np.mean(released) < 65
