"""Metrics against scikit-learn, pytorch-ood and a brute-force sweep over thresholds, ties included."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_ood.metrics import OODMetrics
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score, roc_curve

from pipeline.evaluation.metrics import accuracy_percent, auroc, ood_metrics

levels = st.integers(0, 6).map(float)  # few levels: many ties
sets = st.lists(levels, min_size=1, max_size=40).map(np.array)


def rates(id_scores: np.ndarray, ood_scores: np.ndarray) -> list[tuple[float, float]]:
    """(share of ID flagged, share of OOD flagged) at every threshold, from strict to lax."""
    thresholds = sorted({*id_scores, *ood_scores}, reverse=True)
    return [((id_scores >= t).mean(), (ood_scores >= t).mean()) for t in thresholds]


def openood(known: np.ndarray, unknown: np.ndarray) -> dict[str, float]:
    """OpenOOD's published definition, on scikit-learn as it comes: `conf` is larger for ID, OOD is positive."""
    conf = -np.concatenate([known, unknown])
    ood = np.repeat([0, 1], [len(known), len(unknown)])
    fpr, tpr, _ = roc_curve(ood, -conf)
    precision_in, recall_in, _ = precision_recall_curve(1 - ood, conf)
    precision_out, recall_out, _ = precision_recall_curve(ood, -conf)
    values = {
        "auroc": auc(fpr, tpr),
        "fpr95": fpr[np.argmax(tpr >= 0.95)],
        "aupr_in": auc(recall_in, precision_in),
        "aupr_out": auc(recall_out, precision_out),
    }
    return {name: 100 * float(value) for name, value in values.items()}


@settings(max_examples=1000, deadline=None)
@given(sets, sets)
def test_openood_s_definition_to_4_decimals_of_a_percent_ties_and_all(known: np.ndarray, unknown: np.ndarray) -> None:
    found = ood_metrics(known, unknown)
    for name, expected in openood(known, unknown).items():
        assert found[name] == pytest.approx(expected, abs=5e-5), name


@settings(max_examples=1000, deadline=None)
@given(sets, sets)
def test_fpr95_is_a_threshold_that_catches_95_percent_of_ood(known: np.ndarray, unknown: np.ndarray) -> None:
    """The first one, but that OpenOOD passes over points between two corners of the curve."""
    enough = [(flagged, caught) for flagged, caught in rates(known, unknown) if caught >= 0.95]
    found = ood_metrics(known, unknown)["fpr95"] / 100
    assert any(found == pytest.approx(flagged, abs=1e-12) for flagged, _ in enough)
    if len({*known} & {*unknown}) == 0:  # without ties there is no such point with another rate
        assert found == pytest.approx(enough[0][0], abs=1e-12)


@settings(max_examples=1000, deadline=None)
@given(sets, sets)
def test_auroc_is_the_chance_that_ood_scores_higher(known: np.ndarray, unknown: np.ndarray) -> None:
    pairs = (unknown[:, None] > known) + 0.5 * (unknown[:, None] == known)
    labels = np.repeat([0, 1], [len(known), len(unknown)])
    found = ood_metrics(known, unknown)["auroc"]
    assert found == pytest.approx(100 * pairs.mean(), abs=1e-9)
    assert found == pytest.approx(100 * roc_auc_score(labels, np.concatenate([known, unknown])), abs=1e-9)
    assert auroc(known, unknown) == pytest.approx(ood_metrics(known, unknown)["auroc"], abs=1e-9)


@settings(max_examples=1000, deadline=None)
@given(sets, sets)
def test_aupr_is_the_trapezoid_under_a_brute_force_curve(known: np.ndarray, unknown: np.ndarray) -> None:
    def area(positive: np.ndarray, negative: np.ndarray) -> float:
        points = [(0.0, 1.0)]
        for t in sorted({*positive, *negative}, reverse=True):
            caught, false = (positive >= t).sum(), (negative >= t).sum()
            points.append((caught / len(positive), caught / (caught + false)))
        recall, precision = zip(*points, strict=True)
        return 100 * float(np.trapezoid(precision, recall))

    found = ood_metrics(known, unknown)
    assert found["aupr_out"] == pytest.approx(area(unknown, known), abs=1e-9)
    assert found["aupr_in"] == pytest.approx(area(-known, -unknown), abs=1e-9)


def hendrycks_fpr(positive: np.ndarray, negative: np.ndarray, level: float = 0.95) -> float:
    """The published rule, restated: walk the distinct thresholds from lax to strict, starting at the strictest one
    with full recall, and take the first whose recall is nearest to the level."""
    best, rate = np.inf, 0.0
    thresholds = sorted({*positive, *negative})
    complete = max(t for t in thresholds if (positive >= t).all())
    for t in [t for t in thresholds if t >= complete]:
        distance = abs((positive >= t).mean() - level)
        if distance < best:
            best, rate = distance, (negative >= t).mean()
    return rate


@settings(max_examples=1000, deadline=None)
@given(sets, sets)
def test_id_positive_fpr95_is_the_dream_ood_familys(known: np.ndarray, unknown: np.ndarray) -> None:
    found = ood_metrics(known, unknown)["fpr95_id_positive"]
    assert found == pytest.approx(100 * hendrycks_fpr(-known, -unknown), abs=1e-9)


@settings(max_examples=1000, deadline=None)
@given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 2**31), st.booleans())
def test_agreement_with_pytorch_ood(n: int, m: int, seed: int, ties: bool) -> None:
    random = np.random.default_rng(seed)
    known, unknown = random.normal(0, 1, n), random.normal(1, 1, m)
    if ties:
        known, unknown = known.round(), unknown.round()
    theirs = OODMetrics()
    labels = torch.tensor([0] * n + [-1] * m)
    theirs.update(torch.from_numpy(np.concatenate([known, unknown])), labels)
    expected = {name.upper(): 100 * float(value) for name, value in theirs.compute().items()}
    found = ood_metrics(known, unknown)
    assert found["auroc"] == pytest.approx(expected["AUROC"], abs=1e-4)
    assert found["aupr_in"] == pytest.approx(expected["AUPR-IN"], abs=1e-4)
    assert found["aupr_out"] == pytest.approx(expected["AUPR-OUT"], abs=1e-4)
    if not ties:  # it keeps every point of the curve, where OpenOOD looks at corners alone
        assert found["fpr95"] == pytest.approx(expected["FPR95TPR"], abs=1e-4)


def test_the_two_conventions_differ_and_are_named() -> None:
    known, unknown = np.concatenate([np.zeros(90), np.full(10, 5.0)]), np.concatenate([np.full(96, 6.0), np.zeros(4)])
    found = ood_metrics(known, unknown)
    assert found["fpr95"] == 0  # no ID image scores 6
    assert found["fpr95_id_positive"] == pytest.approx(4)  # the threshold at 5 lets four OOD images pass


def test_constant_and_single_scores() -> None:
    same = ood_metrics(np.ones(3), np.ones(4))
    assert same["auroc"] == 50 and same["fpr95"] == 100
    assert ood_metrics(np.array([0.0]), np.array([1.0]))["auroc"] == 100


def test_accuracy() -> None:
    assert accuracy_percent(np.array([[0.1, 0.9], [0.8, 0.2], [0.4, 0.6]]), np.array([1, 1, 1])) == pytest.approx(
        200 / 3
    )
