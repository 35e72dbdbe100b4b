"""Detectors on cached outputs against closed forms and scikit-learn: larger is more OOD."""

import numpy as np
import pytest
import torch

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


def test_confident_softmaxes_do_not_tie(head: Head) -> None:
    logits = torch.tensor([[20.0 + i / 10, 0.0, 0.0] for i in range(50)])
    confident = Outputs([str(i) for i in range(50)], torch.zeros(50, dtype=torch.int64), logits, logits)
    assert len(set(fit("msp", {}, confident, confident, head)(confident))) == 50


@pytest.mark.parametrize(("name", "options"), [("nothing", {}), ("msp", {"q": 1}), ("knn", {"k": 10_000})])
def test_bad_detectors_are_named(head: Head, name: str, options: dict[str, int]) -> None:
    with pytest.raises(UserError, match=f"score.detectors.*{name}"):
        fit(name, options, outputs(head, 60, 1), outputs(head, 60, 2), head)
