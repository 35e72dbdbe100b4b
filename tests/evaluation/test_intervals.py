"""Two-level intervals against SciPy's one-level tests, variance components against those that were put in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.evaluation.intervals import LEVEL, bounded, half_width, holm, images_variance, p_value, verdict


@pytest.mark.parametrize("units", [2, 3, 5, 10])
def test_without_variance_of_images_it_is_students_t(units: int) -> None:
    values = np.random.default_rng(units).normal(1, 1, (4, units))
    expected = [stats.ttest_1samp(row, 0) for row in values]
    assert p_value(values, np.zeros(4)) == pytest.approx([found.pvalue for found in expected], abs=1e-9)
    ends = [found.confidence_interval(0.95) for found in expected]
    half = half_width(values, np.zeros(4))
    assert half == pytest.approx([(end.high - end.low) / 2 for end in ends])


def test_of_a_single_unit_it_is_the_normal_interval_of_the_images() -> None:
    values, variance = np.array([[1.0], [-3.0]]), np.array([0.25, 4.0])
    assert half_width(values, variance) == pytest.approx(stats.norm.ppf(0.975) * np.array([0.5, 2.0]))
    assert p_value(values, variance) == pytest.approx(2 * stats.norm.sf([2.0, 1.5]))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.floats(0, 4))
def test_p_is_below_the_level_where_the_interval_leaves_zero_out(seed: int, units: int, variance: float) -> None:
    values = np.random.default_rng(seed).normal(1, 1, (20, units))
    outside = np.abs(values.mean(axis=1)) > half_width(values, np.full(20, variance))
    assert ((p_value(values, np.full(20, variance)) < LEVEL) == outside).all()


def test_of_no_difference_p_is_one() -> None:
    assert p_value(np.zeros((1, 5)), np.zeros(1)) == 1
    assert p_value(np.full((1, 5), 3.0), np.zeros(1)) < 1e-12  # always 3, whatever the seed and the images


def test_the_variance_of_the_images_is_what_all_units_share() -> None:
    """Samples of known components: 4 of the images for all, 9 more for each unit by itself."""
    random = np.random.default_rng(0)
    shared, own = random.normal(0, 2, (50, 1, 4000)), random.normal(0, 3, (50, 3, 4000))
    assert images_variance(shared + own).mean() == pytest.approx(4, rel=0.02)
    covariances = np.array([np.cov(sample)[np.triu_indices(3, 1)].mean() for sample in shared + own])
    assert images_variance(shared + own) == pytest.approx(covariances)
    assert images_variance((shared + own)[:, :1]).mean() == pytest.approx(13, rel=0.02)
    opposed = np.stack([own[0, 0], -own[0, 0]])
    assert images_variance(opposed) == 0


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 100), st.floats(0, 200), st.integers(1, 5000))
def test_the_interval_of_a_percentage_is_one(value: float, half: float, images: int) -> None:
    low, high = bounded(np.array(value), np.array(half), np.array(images))
    assert 0 <= low <= value <= high <= 100 and low < high


def test_in_the_middle_of_large_sets_it_is_the_plain_interval() -> None:
    low, high = bounded(np.array(60.0), np.array(1.0), np.array(100_000))
    assert (low, high) == pytest.approx((59, 61), abs=0.02)
    low, high = bounded(np.array(100.0), np.array(0.0), np.array(20))  # all of 20 images right: not certainty
    assert low < 97 and high > 99.5


def test_holm_is_the_step_down_procedure() -> None:
    random = np.random.default_rng(0)
    for count in (1, 2, 7, 40):
        p = random.beta(0.3, 2, count)
        adjusted = holm(p)
        for level in (0.01, 0.05, 0.3):
            rejected = set()
            for rank, i in enumerate(np.argsort(p)):  # the textbook's words
                if p[i] > level / (count - rank):
                    break
                rejected.add(int(i))
            assert set(np.flatnonzero(adjusted <= level)) == rejected
        assert (adjusted >= p).all() and adjusted.max() <= 1
    assert len(holm(np.array([]))) == 0


@pytest.mark.parametrize(
    ("delta", "p", "metric", "expected"),
    [
        (2, 0.01, "auroc", "better"), (-2, 0.01, "auroc", "worse"), (2, 0.06, "auroc", "no difference"),
        (-2, 0.01, "fpr95", "better"), (2, 0.01, "fpr95", "worse"), (2, 0.05, "auroc", "no difference"),
    ],
)  # fmt: skip
def test_verdicts(delta: float, p: float, metric: str, expected: str) -> None:
    assert verdict(delta, p, metric) == expected
