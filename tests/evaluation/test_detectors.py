"""Detectors on cached outputs against closed forms and scikit-learn: larger is more OOD."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors

from pipeline.artifacts.outputs import Head, Outputs
from pipeline.evaluation.detectors import DETECTORS, fit
from pipeline.runtime.errors import UserError

OPTIONS = {"knn": {"k": 5}, "vim": {"d": 4}, "dice": {"p": 0.5}}
SELECTIVE = ("ash-b", "scale")  # they act on activations that are not negative


@pytest.fixture(scope="module")
def head() -> Head:
    generator = torch.Generator().manual_seed(0)
    return Head(torch.randn(3, 8, generator=generator), torch.randn(3, generator=generator))


def outputs(head: Head, n: int, seed: int, scale: float = 1.0) -> Outputs:
    labels = torch.arange(n) % 3
    generator = torch.Generator().manual_seed(seed)
    features = scale * torch.randn(n, 8, generator=generator) + 3 * head.weight[labels]
    return Outputs([str(i) for i in range(n)], labels, features @ head.weight.T + head.bias, features)


def test_every_detector_finds_what_is_far_and_unsure(head: Head) -> None:
    train, known = outputs(head, 300, 1), outputs(head, 100, 2)
    features = 0.05 * torch.randn(100, 8, generator=torch.Generator().manual_seed(3)) + 4 * torch.eye(8)[7]
    features -= features @ torch.linalg.pinv(head.weight) @ head.weight  # nothing the classes would see
    logits = features @ head.weight.T + head.bias
    unknown = Outputs(known.keys, known.labels, logits, features)
    for name in set(DETECTORS) - set(SELECTIVE):
        score = fit(name, OPTIONS.get(name, {}), train, known, head)
        assert np.median(score(unknown)) > np.median(score(known)), name


def test_logit_scores_by_their_formulas(head: Head) -> None:
    train = outputs(head, 60, 1)
    logits = train.logits.double().numpy()
    expected = {"msp": -softmax(logits, axis=1).max(axis=1), "max-logit": -logits.max(axis=1)}
    expected["energy"] = -logsumexp(logits, axis=1)
    for name, values in expected.items():
        np.testing.assert_allclose(fit(name, {}, train, train, head)(train), values, rtol=1e-9)


def test_feature_scores_against_scikit_learn(head: Head) -> None:
    train, test = outputs(head, 200, 1), outputs(head, 50, 2)
    unit = [
        part.features.numpy() / np.linalg.norm(part.features.numpy(), axis=1, keepdims=True) for part in (train, test)
    ]
    nearest = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(unit[0]).kneighbors(unit[1])[0][:, -1]
    np.testing.assert_allclose(fit("knn", {"k": 5}, train, test, head)(test), nearest, rtol=1e-4)

    features, labels = train.features.numpy(), train.labels.numpy()
    means = np.stack([features[labels == label].mean(axis=0) for label in range(3)])
    tied = EmpiricalCovariance(assume_centered=True).fit(features - means[labels])
    distances = np.stack([tied.mahalanobis(test.features.numpy() - mean) for mean in means]).min(axis=0)
    ours = fit("mahalanobis", {}, train, test, head)(test)
    np.testing.assert_allclose(ours, distances, rtol=1e-3)


def test_confident_softmaxes_do_not_tie(head: Head) -> None:
    logits = torch.tensor([[20.0 + i / 10, 0.0, 0.0] for i in range(50)])
    confident = Outputs([str(i) for i in range(50)], torch.zeros(50, dtype=torch.int64), logits, logits)
    assert len(set(fit("msp", {}, confident, confident, head)(confident))) == 50


@pytest.mark.parametrize(("name", "options"), [("nothing", {}), ("msp", {"q": 1}), ("knn", {"k": 10_000})])
def test_bad_detectors_are_named(head: Head, name: str, options: dict[str, int]) -> None:
    with pytest.raises(UserError, match=f"score.detectors.*{name}"):
        fit(name, options, outputs(head, 60, 1), outputs(head, 60, 2), head)


def energy(logits: np.ndarray) -> np.ndarray:
    return -logsumexp(logits, axis=1)


def relu(said: Outputs, head: Head) -> Outputs:
    """The same with features as they come out of a ReLU."""
    features = said.features.relu()
    return Outputs(said.keys, said.labels, features @ head.weight.T + head.bias, features)


def test_relative_mahalanobis_against_scikit_learn(head: Head) -> None:
    train, test = outputs(head, 200, 1), outputs(head, 50, 2)
    features, labels = train.features.numpy(), train.labels.numpy()
    means = np.stack([features[labels == label].mean(axis=0) for label in range(3)])
    tied = EmpiricalCovariance(assume_centered=True).fit(features - means[labels])
    whole = EmpiricalCovariance().fit(features)
    to_class = np.stack([tied.mahalanobis(test.features.numpy() - mean) for mean in means]).min(axis=0)
    expected = to_class - whole.mahalanobis(test.features.numpy())
    np.testing.assert_allclose(fit("rmd", {}, train, test, head)(test), expected, rtol=1e-3, atol=1e-4)


def test_reshaped_activations_by_hand(head: Head) -> None:
    """ReAct clips at a percentile of ID validation activations, ASH-B keeps the largest and makes them equal, SCALE
    stretches all by exp(sum / sum of the kept), DICE keeps the weights that contribute most on average."""
    train, val, test = (relu(outputs(head, n, seed), head) for n, seed in ((200, 1), (100, 2), (20, 3)))
    features, weight, bias = test.features.numpy(), head.weight.numpy(), head.bias.numpy()
    threshold = np.percentile(val.features.numpy(), 90)
    clipped = np.minimum(features, threshold) @ weight.T + bias
    np.testing.assert_allclose(fit("react", {"percentile": 0.9}, train, val, head)(test), energy(clipped), rtol=1e-4)
    kept = np.zeros_like(features)
    np.put_along_axis(kept, np.argsort(features, axis=1)[:, 4:], 1, axis=1)  # of eight
    total = features.sum(axis=1, keepdims=True)
    equal = kept * total / kept.sum(axis=1, keepdims=True)
    found = fit("ash-b", {"percentile": 0.5}, train, val, head)(test)
    np.testing.assert_allclose(found, energy(equal @ weight.T + bias), rtol=1e-4)
    stretched = features * np.exp(total / (features * kept).sum(axis=1, keepdims=True))
    found = fit("scale", {"percentile": 0.5}, train, val, head)(test)
    np.testing.assert_allclose(found, energy(stretched @ weight.T + bias), rtol=1e-4)
    contribution = train.features.numpy().mean(axis=0) * weight
    masked = np.where(contribution > np.percentile(contribution, 50), weight, 0)
    found = fit("dice", {"p": 0.5}, train, val, head)(test)
    np.testing.assert_allclose(found, energy(features @ masked.T + bias), rtol=1e-4)


def test_she_is_the_product_with_the_mean_of_the_class(head: Head) -> None:
    train, test = outputs(head, 200, 1), outputs(head, 30, 2)
    right = train.logits.argmax(dim=1) == train.labels
    means = torch.stack([train.features[right & (train.labels == label)].mean(dim=0) for label in range(3)])
    expected = -(test.features * means[test.logits.argmax(dim=1)]).sum(dim=1)
    np.testing.assert_allclose(fit("she", {}, train, test, head)(test), expected.numpy(), rtol=1e-4)


HOSTILE = {
    "plain": (10, 1.0, 0),
    "huge": (10, 1e3, 0),
    "tiny": (10, 1e-3, 0),
    "silent": (10, 1.0, 12),
    "wide": (1000, 1.0, 0),
}


def hostile(classes: int, scale: float, silent: int, images: int, seed: int) -> tuple[Outputs, Head]:
    """Features of many classes, of any scale, with units that are 0 on every image."""
    generator = torch.Generator().manual_seed(7)
    weight, bias = torch.randn(classes, 20, generator=generator), torch.randn(classes, generator=generator)
    labels = torch.arange(images) % classes
    noise = torch.randn(images, 20, generator=torch.Generator().manual_seed(seed))
    features = scale * (weight[labels] + noise).relu()
    features[:, 20 - silent :] = 0
    logits = features @ weight.T + bias
    return Outputs([str(i) for i in range(images)], labels, logits, features), Head(weight, bias)


def fast_decision_boundary_distance(train: np.ndarray, test: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Liu & Qin 2024, equation 6, over the distance to the training mean; negated."""
    scores = []
    for z in test:
        logits = w @ z + b
        best = int(logits.argmax())
        others = [c for c in range(len(w)) if c != best]
        distances = [(logits[best] - logits[c]) / np.linalg.norm(w[best] - w[c]) for c in others]
        scores.append(-np.mean(distances) / np.linalg.norm(z - train.mean(axis=0)))
    return np.array(scores)


def neural_collapse_inspired(train: np.ndarray, test: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Liu & Qin 2025, equations 6 and 7, with alpha 0.001; negated."""
    predicted = w[(test @ w.T + b).argmax(axis=1)]
    centred = test - train.mean(axis=0)
    proximity = (centred * predicted).sum(axis=1) / np.linalg.norm(centred, axis=1)
    return -(proximity + 0.001 * np.abs(test).sum(axis=1))


def nearest_neighbour_guidance(train: np.ndarray, test: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Park et al. 2023, equation 4, with k of 7; negated."""
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (train, test)]
    sizes = [logsumexp(part @ w.T + b, axis=1) for part in (train, test)]
    guidance = np.sort(unit[1] @ (unit[0] * sizes[0][:, None]).T, axis=1)[:, -7:].mean(axis=1)
    return -guidance * sizes[1]


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize(
    ("name", "options", "formula"),
    [
        ("fdbd", {}, fast_decision_boundary_distance),
        ("nci", {"alpha": 0.001}, neural_collapse_inspired),
        ("nnguide", {"k": 7}, nearest_neighbour_guidance),
    ],
)
def test_newer_detectors_by_their_papers_formulas(
    case: str, name: str, options: dict[str, float], formula: Callable[..., np.ndarray]
) -> None:
    train, head = hostile(*HOSTILE[case], images=400, seed=1)
    test, _ = hostile(*HOSTILE[case], images=30, seed=2)
    arrays = (own.double().numpy() for own in (train.features, test.features, head.weight, head.bias))
    expected = formula(*arrays)
    found = fit(name, options, train, train, head)(test)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6 * np.abs(expected).max())
