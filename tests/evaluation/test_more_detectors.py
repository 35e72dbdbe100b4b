"""Detectors that pytorch-ood lacks or has wrong, by their papers' formulas, on plain and hostile inputs."""

import mpmath
import numpy as np
import pytest
import torch
from pytorch_ood.detector.openmax.libnotmr import LibNotMR
from scipy.special import logsumexp, softmax

from pipeline.artifacts.outputs import Outputs
from pipeline.evaluation.detectors import fit
from pipeline.evaluation.openmax import Weibull
from pipeline.runtime.errors import UserError
from tests.evaluation.test_detectors import HOSTILE, hostile

CASES = [pytest.param(*HOSTILE[name], id=name) for name in HOSTILE]


def data(classes: int, scale: float, silent: int, images: int = 3000) -> tuple[Outputs, Outputs, tuple]:
    """Training and test outputs, and the head, of one kind."""
    train, head = hostile(classes, scale, silent, images, seed=1)
    test, _ = hostile(classes, scale, silent, 30, seed=2)
    return train, test, head


def arrays(outputs: Outputs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return outputs.logits.double().numpy(), outputs.features.double().numpy(), outputs.labels.numpy()


@pytest.mark.parametrize("spread", [1e-4, 0.1, 1.0, 30.0, 1e5])
@pytest.mark.parametrize("images", [2, 20, 200])
def test_the_weibull_distribution_is_the_likeliest(spread: float, images: int) -> None:
    """No shape near the one found is likelier, with the scale that is best for it; and libMR's copy agrees."""
    tail = 3 * spread + spread * torch.rand(images, generator=torch.Generator().manual_seed(images)).double()
    found, x = Weibull.fit(tail), 1 + (tail - tail.min()) / 1e4

    def likelihood(shape: float) -> mpmath.mpf:
        with mpmath.workdps(60):
            values, c = [mpmath.mpf(value) for value in x.tolist()], mpmath.mpf(shape)
            scale = mpmath.fsum(value**c for value in values) / len(values)  # to the power of the shape
            logs = mpmath.fsum(mpmath.log(value) for value in values)
            return len(values) * (mpmath.log(c) - mpmath.log(scale)) + (c - 1) * logs - len(values)

    assert all(likelihood(found.shape) >= likelihood(found.shape * factor) for factor in (0.999, 1.001))
    if spread in (1.0, 30.0) and images == 20:  # where scipy's optimiser, which that copy uses, converges
        reference = LibNotMR(tailsize=images)
        reference.fit_high(tail.numpy())
        points = torch.linspace(2.5 * spread, 5 * spread, 20).double()
        shares = -torch.expm1(found.log_survival(points))
        np.testing.assert_allclose(shares, reference.w_score(points.numpy()), atol=5e-3)


def test_equal_distances_divide_what_is_nearer_and_what_is_farther() -> None:
    found = Weibull.fit(torch.full((20,), 3.0, dtype=torch.float64))
    shares = -torch.expm1(found.log_survival(torch.tensor([2.999, 3.001], dtype=torch.float64)))
    assert shares.tolist() == [0.0, 1.0]
    assert float(found.log_survival(torch.tensor(-2e4, dtype=torch.float64))) == 0  # below the translation


def open_max(train: Outputs, test: Outputs, tail: int, alpha: int) -> np.ndarray:
    """Bendale & Boult 2016, algorithms 1 and 2, image by image and class by class."""
    logits, _, labels = arrays(train)
    classes, models = logits.shape[1], {}
    for c in range(classes):
        own = logits[(labels == c) & (logits.argmax(axis=1) == c)]
        if len(own):
            distances = np.sort(np.linalg.norm(own - own.mean(axis=0), axis=1))[-tail:]
            models[c] = (own.mean(axis=0), Weibull.fit(torch.tensor(distances)))
    scores = []
    for row in arrays(test)[0]:
        revised = row.copy()
        for rank, c in enumerate(np.argsort(row)[::-1][:alpha]):
            share = 1.0
            if c in models:
                mean, model = models[c]
                share = 1 - np.exp(float(model.log_survival(torch.tensor(np.linalg.norm(row - mean)))))
            revised[c] = row[c] * (1 - share * (min(alpha, classes) - rank) / min(alpha, classes))
        unknown = (row - revised).sum()
        scores.append(unknown - logsumexp([*revised, unknown]))
    return np.array(scores)


@pytest.mark.parametrize(("classes", "scale", "silent"), CASES)
@pytest.mark.parametrize(("tail", "alpha"), [(20, 3), (5, 10), (1, 2000)])
def test_openmax(classes: int, scale: float, silent: int, tail: int, alpha: int) -> None:
    train, test, _ = data(classes, scale, silent)
    found = fit("openmax", {"tail": tail, "alpha": alpha}, train, None, None)(test)
    expected = open_max(train, test, tail, alpha)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_openmax_scores_an_image_alike_whatever_it_comes_with() -> None:
    train, test, _ = data(10, 1.0, 0)
    score = fit("openmax", {}, train, None, None)
    parts = (test.keys, test.labels, test.logits)
    alone = [score(Outputs(*(part[i : i + 1] for part in parts), None)) for i in range(5)]
    np.testing.assert_allclose(np.concatenate(alone), score(test)[:5], rtol=1e-9)


def test_openmax_of_one_class_and_of_a_class_never_answered_right() -> None:
    logits = torch.randn(40, 1, generator=torch.Generator().manual_seed(0))
    one = Outputs([str(i) for i in range(40)], torch.zeros(40, dtype=torch.int64), logits, None)
    assert np.isfinite(fit("openmax", {}, one, None, None)(one)).all()
    never = Outputs(one.keys, torch.ones(40, dtype=torch.int64), torch.cat([logits, logits - 1], dim=1), None)
    assert np.isfinite(fit("openmax", {}, never, None, None)(never)).all()


@pytest.mark.parametrize(("classes", "scale", "silent"), CASES)
@pytest.mark.parametrize("power", [1, 4, 8])
def test_relation(classes: int, scale: float, silent: int, power: int) -> None:
    """Kim et al. 2023, equation 2, with the threshold of the authors' code."""
    train, test, _ = data(classes, scale, silent)
    (logits, features, _), (own_logits, own_features, _) = arrays(train), arrays(test)
    unit = [part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12) for part in (features, own_features)]
    relations = np.maximum(unit[1] @ unit[0].T, 0) * (softmax(own_logits, axis=1) @ softmax(logits, axis=1).T)
    near = np.abs(relations - 0.03) < 1e-6
    expected = -(np.where(relations > 0.03, relations, 0) ** power).sum(axis=1)
    found = fit("relation", {"pow": power}, train, None, None)(test)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3 + 0.04 * near.sum())


def spread(values: np.ndarray, train: np.ndarray, smoothing: int, epsilon: float) -> np.ndarray:
    """Granz et al. 2024, section 3.3, image by image: divergences of histograms from the mean one of training."""
    gap = (train.max() - train.min()) / len(train)
    edges = np.linspace(train.min() - gap, train.max() + gap, 101)
    mean = np.mean([np.histogram(row, edges)[0] / len(row) for row in train], axis=0) + epsilon
    found = []
    for row in values:
        own = np.pad(np.histogram(row, edges)[0] / len(row), ((smoothing - 1) // 2, smoothing // 2), mode="edge")
        own = np.convolve(own, np.ones(smoothing) / smoothing, mode="valid") + epsilon
        p, q = mean / mean.sum(), own / own.sum()
        found.append((p * np.log(p / q)).sum() + (q * np.log(q / p)).sum())
    return np.array(found)


@pytest.mark.parametrize(("classes", "scale", "silent"), CASES)
@pytest.mark.parametrize("smoothing", [1, 4, 15])
def test_weiper(classes: int, scale: float, silent: int, smoothing: int) -> None:
    train, test, head = data(classes, scale, silent, 300)
    options = {"repeats": 3, "smoothing": smoothing, "smoothing_perturbed": 2, "lambda_1": 2.0, "lambda_2": 0.5}
    found = fit("weiper", options, train, None, head)(test)
    noise = torch.randn(3, *head.weight.shape, generator=torch.Generator().manual_seed(0)).double().numpy()
    weight, bias = head.weight.double().numpy(), head.bias.double().numpy()
    length = np.linalg.norm(weight, axis=1)[None, :, None]
    perturbed = weight + 2.1 * length * noise / np.linalg.norm(noise, axis=2, keepdims=True)
    features, own = arrays(train)[1], arrays(test)[1]
    logits = [np.einsum("nd,rcd->nrc", part, perturbed) + bias for part in (features, own)]
    flat = [part.reshape(len(part), -1) for part in logits]
    msp = softmax(logits[1], axis=2).max(axis=2).mean(axis=1)
    of_features, of_logits = spread(own, features, smoothing, 0.01), spread(flat[1], flat[0], 2, 0.025)
    # a value within single precision of an edge is one of d in another bin
    np.testing.assert_allclose(found, of_features + 2 * of_logits - 0.5 * msp, rtol=2e-2, atol=1e-3)
    assert np.median(np.abs(found - (of_features + 2 * of_logits - 0.5 * msp))) < 1e-3


@pytest.mark.parametrize("name", ["relation", "weiper"])
def test_what_they_need_is_named(name: str) -> None:
    train, test, head = data(10, 1.0, 0)
    with pytest.raises(UserError, match=f"{name} is fitted on train.parquet"):
        fit(name, {}, None, test, head)
    with pytest.raises(UserError, match=rf"{name} needs the column `features`"):
        fit(name, {}, Outputs(train.keys, train.labels, train.logits, None), test, head)


@pytest.mark.parametrize("options", [{"tail": 0}, {"alpha": 0}, {"depth": 3}])
def test_openmax_refuses(options: dict[str, int]) -> None:
    train, _, _ = data(10, 1.0, 0)
    with pytest.raises(UserError, match="score.detectors.openmax"):
        fit("openmax", options, train, None, None)
