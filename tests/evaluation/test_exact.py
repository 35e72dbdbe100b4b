"""Detectors that are exact on hostile inputs: against high precision, a grid and scikit-learn."""

import mpmath
import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.covariance import EmpiricalCovariance

from pipeline.evaluation.exact import Gen, KLMatching, Mahalanobis, Temperature


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def generalised_entropy(logits: list[float], gamma: float, largest: int | None) -> float:
    """The formula, with 400 digits."""
    with mpmath.workdps(400):
        weights = [mpmath.exp(mpmath.mpf(value)) for value in logits]
        total = mpmath.fsum(weights)
        p = sorted((weight / total for weight in weights), reverse=True)
        rest = [(total - weight) / total for weight in sorted(weights, reverse=True)]
        terms = [(own * other) ** mpmath.mpf(gamma) for own, other in zip(p, rest, strict=True)]
        return float(mpmath.fsum(terms[:largest]))


@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 300.0])
@pytest.mark.parametrize(("gamma", "largest"), [(0.1, None), (0.1, 10), (0.01, 100), (1.0, None), (5.0, 3)])
def test_generalised_entropy_at_any_scale(classes: int, scale: float, gamma: float, largest: int | None) -> None:
    logits = scale * torch.randn(3, classes, generator=generator(classes))
    expected = [generalised_entropy(row, gamma, largest) for row in logits.double().tolist()]
    found = Gen(gamma, largest).predict_logits(logits)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-300)


def test_generalised_entropy_of_equal_and_of_saturated_logits() -> None:
    logits = torch.tensor([[0.0, 0.0], [800.0, 0.0], [10.0, 0.0]])
    found = Gen(0.1).predict_logits(logits).tolist()
    assert found[0] == pytest.approx(2 * 0.25**0.1)
    assert found[1] == pytest.approx(2 * np.exp(-80.0), rel=1e-9)  # p (1 - p) is exp(-800) twice, not 1e-7
    assert found[0] > found[2] > found[1]


@pytest.mark.parametrize("best", [0.05, 0.2, 1.0, 5.0, 20.0])
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_the_temperature_is_the_minimiser_on_a_grid(best: float, classes: int) -> None:
    """Labels drawn from a softmax make its logits calibrated; scaled by `best` they need about that temperature."""
    calibrated = 2 * torch.randn(4000, classes, generator=generator(1), dtype=torch.float64)
    labels = torch.multinomial(calibrated.softmax(dim=1), 1, generator=generator(2)).squeeze(1)
    logits = best * calibrated
    found = Temperature()
    found.fit_logits(logits, labels)
    rows = np.arange(len(labels))
    grid = best * np.geomspace(0.8, 1.25, 901)
    losses = [-log_softmax(logits.numpy() / t, axis=1)[rows, labels.numpy()].mean() for t in grid]
    assert found.temperature == pytest.approx(grid[int(np.argmin(losses))], rel=5e-4)
    expected = np.exp(log_softmax(logits.numpy() / found.temperature, axis=1)).max(axis=1)
    np.testing.assert_allclose(1 - np.exp(found.predict_logits(logits)), expected, rtol=1e-9)


def test_a_temperature_without_a_minimum_is_one_at_which_the_loss_is_gone() -> None:
    logits = torch.eye(3, dtype=torch.float64).repeat(5, 1)  # all are right: the colder the better
    found = Temperature()
    found.fit_logits(logits, torch.arange(3).repeat(5))
    assert 0.01 <= found.temperature < 0.05  # where the loss is below 1e-8
    assert bool(found.predict_logits(logits).isfinite().all())


def features(n: int, seed: int, silent: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(n) % 4
    values = torch.randn(n, 12, generator=generator(seed)) @ torch.randn(12, 12, generator=generator(9))
    values = values + 3 * torch.randn(4, 12, generator=generator(8))[labels]
    return torch.cat([values, torch.zeros(n, silent)], dim=1), labels


def by_scikit_learn(train: np.ndarray, labels: np.ndarray, test: np.ndarray, relative: bool) -> np.ndarray:
    means = np.stack([train[labels == label].mean(axis=0) for label in np.unique(labels)])
    places = np.searchsorted(np.unique(labels), labels)
    tied = EmpiricalCovariance(assume_centered=True).fit(train - means[places])
    nearest = np.stack([tied.mahalanobis(test - mean) for mean in means]).min(axis=0)
    return nearest - EmpiricalCovariance().fit(train).mahalanobis(test) if relative else nearest


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("silent", [0, 10])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_mahalanobis_distances_are_scikit_learn_s(normalised: bool, relative: bool, silent: int, scale: float) -> None:
    (train, labels), (test, _) = features(400, 1, silent), features(50, 2, silent)
    test[:, 12:] = torch.randn(50, silent, generator=generator(3))  # OOD images wake the silent units
    detector = Mahalanobis(relative, normalised)
    detector.fit_features(scale * train, labels)
    arrays = [scale * own.double().numpy() for own in (train, test)]
    if normalised:
        arrays = [own / np.linalg.norm(own, axis=1, keepdims=True) for own in arrays]
    expected = by_scikit_learn(arrays[0], labels.numpy(), arrays[1], relative)
    np.testing.assert_allclose(detector.predict_features(scale * test), expected, rtol=1e-5, atol=1e-5)


def test_silent_units_decide_nothing() -> None:
    (train, labels), (test, _) = features(400, 1), features(50, 2)
    plain, padded = Mahalanobis(), Mahalanobis()
    plain.fit_features(train, labels)
    padded.fit_features(torch.cat([train, torch.zeros(400, 5)], dim=1), labels)
    awake = torch.cat([test, 100 * torch.ones(50, 5)], dim=1)
    torch.testing.assert_close(padded.predict_features(awake), plain.predict_features(test))


def test_one_class_and_labels_with_gaps() -> None:
    (train, labels), (test, _) = features(400, 1), features(50, 2)
    one, gaps = Mahalanobis(), Mahalanobis()
    one.fit_features(train, torch.full_like(labels, 7))
    np.testing.assert_allclose(
        one.predict_features(test), EmpiricalCovariance().fit(train.numpy()).mahalanobis(test.numpy()), rtol=1e-3
    )
    gaps.fit_features(train, 10 * labels)
    plain = Mahalanobis()
    plain.fit_features(train, labels)
    assert torch.equal(gaps.predict_features(test), plain.predict_features(test))


def divergence(logits: list[float], means: list[list[mpmath.mpf]]) -> float:
    """The least Kullback-Leibler divergence, with 400 digits."""
    p = posterior(logits)
    return float(min(mpmath.fsum(a * mpmath.log(a / b) for a, b in zip(p, mean, strict=True)) for mean in means))


def posterior(logits: list[float]) -> list[mpmath.mpf]:
    weights = [mpmath.exp(mpmath.mpf(value)) for value in logits]
    total = mpmath.fsum(weights)
    return [weight / total for weight in weights]


@pytest.mark.parametrize(("classes", "images"), [(1, 5), (3, 30), (100, 60)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 300.0])
def test_kl_matching_at_any_scale(classes: int, images: int, scale: float) -> None:
    fitted = scale * torch.randn(images, classes, generator=generator(1))
    logits = scale * torch.randn(4, classes, generator=generator(2))
    found = KLMatching()
    found.fit_logits(fitted, torch.zeros(images))
    with mpmath.workdps(400):
        by_class: dict[int, list[list[mpmath.mpf]]] = {}
        for row in fitted.double().tolist():
            by_class.setdefault(int(np.argmax(row)), []).append(posterior(row))
        means = [[mpmath.fsum(column) / len(own) for column in zip(*own, strict=True)] for own in by_class.values()]
        expected = [divergence(row, means) for row in logits.double().tolist()]
    np.testing.assert_allclose(found.predict_logits(logits), expected, rtol=1e-7, atol=1e-12)
