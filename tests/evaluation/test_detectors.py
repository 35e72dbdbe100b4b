"""Detectors on cached outputs against closed forms and scikit-learn: larger is more OOD."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors

from pipeline.artifacts.outputs import Head, Outputs
from pipeline.errors import UserError
from pipeline.evaluation.detectors import DETECTORS, fit

OPTIONS = {"knn": {"k": 5}, "vim": {"d": 4}}


@pytest.fixture(scope="module")
def head() -> Head:
    generator = torch.Generator().manual_seed(0)
    return Head(torch.randn(3, 8, generator=generator), torch.randn(3, generator=generator))


def outputs(head: Head, n: int, seed: int, scale: float = 1.0) -> Outputs:
    labels = torch.arange(n) % 3
    generator = torch.Generator().manual_seed(seed)
    features = scale * torch.randn(n, 8, generator=generator) + 3 * head.weight[labels]
    return Outputs([str(i) for i in range(n)], labels, features @ head.weight.T + head.bias, features, "id")


def test_every_detector_finds_what_is_far_and_unsure(head: Head) -> None:
    train, known = outputs(head, 300, 1), outputs(head, 100, 2)
    features = 0.05 * torch.randn(100, 8, generator=torch.Generator().manual_seed(3)) + 4 * torch.eye(8)[7]
    features -= features @ torch.linalg.pinv(head.weight) @ head.weight  # nothing the classes would see
    logits = features @ head.weight.T + head.bias
    unknown = Outputs(known.keys, known.labels, logits, features, "far")
    for name in DETECTORS:
        score = fit(name, OPTIONS.get(name, {}), train, head)
        assert np.median(score(unknown)) > np.median(score(known)), name


def test_logit_scores_by_their_formulas(head: Head) -> None:
    train = outputs(head, 60, 1)
    logits = train.logits.double().numpy()
    expected = {"msp": -softmax(logits, axis=1).max(axis=1), "max-logit": -logits.max(axis=1)}
    expected["energy"] = -logsumexp(logits, axis=1)
    for name, values in expected.items():
        np.testing.assert_allclose(fit(name, {}, train, head)(train), values, rtol=1e-9)


def test_feature_scores_against_scikit_learn(head: Head) -> None:
    train, test = outputs(head, 200, 1), outputs(head, 50, 2)
    unit = [
        part.features.numpy() / np.linalg.norm(part.features.numpy(), axis=1, keepdims=True) for part in (train, test)
    ]
    nearest = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(unit[0]).kneighbors(unit[1])[0][:, -1]
    np.testing.assert_allclose(fit("knn", {"k": 5}, train, head)(test), nearest, rtol=1e-4)

    features, labels = train.features.numpy(), train.labels.numpy()
    means = np.stack([features[labels == label].mean(axis=0) for label in range(3)])
    tied = EmpiricalCovariance(assume_centered=True).fit(features - means[labels])
    distances = np.stack([tied.mahalanobis(test.features.numpy() - mean) for mean in means]).min(axis=0)
    ours = fit("mahalanobis", {}, train, head)(test)
    np.testing.assert_allclose(ours * 2 * len(features), distances, rtol=1e-3)  # pytorch-ood: half, not divided by n


def test_confident_softmaxes_do_not_tie(head: Head) -> None:
    logits = torch.tensor([[20.0 + i / 10, 0.0, 0.0] for i in range(50)])
    confident = Outputs([str(i) for i in range(50)], torch.zeros(50, dtype=torch.int64), logits, logits, "id")
    assert len(set(fit("msp", {}, confident, head)(confident))) == 50


@pytest.mark.parametrize(("name", "options"), [("nothing", {}), ("msp", {"q": 1}), ("knn", {"k": 10_000})])
def test_bad_detectors_are_named(head: Head, name: str, options: dict[str, int]) -> None:
    with pytest.raises(UserError, match=f"score.detectors.*{name}"):
        fit(name, options, outputs(head, 60, 1), head)
