"""The bootstrap against samples written out, and what comparisons of recipes have to do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from pipeline.evaluation.metrics import ood_metrics
from pipeline.evaluation.statistics import Group, bootstrap, differences, draw, observed, resampled

levels = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=30).map(np.array)  # few levels: many ties


@settings(max_examples=1000, deadline=None)
@given(levels, levels, st.integers(0, 2**31))
def test_a_weighted_sample_is_the_sample_written_out(known: np.ndarray, unknown: np.ndarray, seed: int) -> None:
    random = np.random.default_rng(seed)
    weights = draw(random, len(known), 3), draw(random, len(unknown), 3)
    found = resampled(known, unknown, *weights)
    for i in range(3):
        own, other = np.repeat(known, weights[0][i]), np.repeat(unknown, weights[1][i])
        fpr, tpr, _ = roc_curve(np.repeat([0, 1], [len(own), len(other)]), np.concatenate([own, other]),
                                drop_intermediate=False)  # fmt: skip
        assert found[0, i] == pytest.approx(ood_metrics(own, other)["auroc"], abs=1e-9)
        assert found[1, i] == pytest.approx(100 * fpr[np.argmax(tpr >= 0.95)], abs=1e-9)


def test_draws_are_with_replacement_and_complete() -> None:
    drawn = draw(np.random.default_rng(0), 50, 2000)
    assert drawn.shape == (2000, 50) and (drawn.sum(axis=1) == 50).all()
    assert (drawn == 0).mean() == pytest.approx((1 - 1 / 50) ** 50, abs=0.01)
    assert drawn.var() == pytest.approx(1 - 1 / 50, abs=0.03)


def scores(random: np.random.Generator, shift: float, n: int, m: int, seeds: int = 1) -> tuple[np.ndarray, np.ndarray]:
    return random.normal(0, 1, (seeds, n)), random.normal(shift, 1, (seeds, m))


def test_the_mean_of_the_samples_is_what_was_observed_and_the_group_is_the_mean_of_its_sets() -> None:
    random = np.random.default_rng(0)
    known, near = scores(random, 1.0, 200, 150, seeds=4)
    other = random.normal(2, 1, (4, 100))
    group = Group({"a": known}, {"first": {"a": near}, "second": {"a": other}})
    values, samples = observed(group), bootstrap({"msp": group}, 2000, random)["msp"]
    assert values.shape == (1, 3, 2, 4) and samples.shape == (1, 3, 2, 4, 2000)
    for seed_mean, column in ((near, 1), (other, 2)):
        expected = [ood_metrics(known[s], seed_mean[s])["auroc"] for s in range(4)]
        assert values[0, column, 0] == pytest.approx(expected)
    assert values[0, 0] == pytest.approx(values[0, 1:].mean(axis=0))
    assert samples[0, :, 0].mean(axis=-1) == pytest.approx(values[0, :, 0], abs=0.2)
    runs = Group(group.id_scores, group.ood_scores, models_per_unit=2)
    pooled = bootstrap({"msp": runs}, 50, np.random.default_rng(5))["msp"]
    single = bootstrap({"msp": group}, 50, np.random.default_rng(5))["msp"]
    for of_runs, of_models in ((pooled, single), (observed(runs), values)):
        expected = [of_models[0, 0, 0, :2].mean(axis=0), of_models[0, 0, 0, 2:].mean(axis=0)]
        assert of_runs[0, 0, 0] == pytest.approx(np.array(expected))


def test_blocks_change_nothing_but_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    known, near = scores(np.random.default_rng(1), 1.0, 80, 60, seeds=2)
    group = Group({"a": known}, {"near": {"a": near}})
    whole = bootstrap({"msp": group}, 400, np.random.default_rng(0))["msp"]
    monkeypatch.setattr("pipeline.evaluation.statistics.AT_A_TIME", 140 * 30)
    pieces = bootstrap({"msp": group}, 400, np.random.default_rng(0))["msp"]
    assert pieces.shape == whole.shape
    assert pieces.std() == pytest.approx(whole.std(), rel=0.1)


def test_intervals_hold_the_true_difference_about_95_times_in_100() -> None:
    """Two detectors of the same images; the AUROC of two normals a shift d apart is Phi(d / sqrt 2)."""
    from scipy.stats import norm

    random, held, trials = np.random.default_rng(0), 0, 200
    truth = 100 * (norm.cdf(1.5 / np.sqrt(2)) - norm.cdf(1.0 / np.sqrt(2)))
    for trial in range(trials):
        known, unknown = scores(random, 0.0, 150, 150)
        noise = [random.normal(0, 0.01, (1, 150)) for _ in range(2)]
        group = Group({"a": known, "b": known + noise[0]}, {"s": {"a": unknown + 1.5, "b": unknown + 1.0 + noise[1]}})
        pairs, _ = differences({"msp": group}, "near", 300, seed=trial)
        row = pairs.query("recipe == 'a' and reference == 'b' and set == 's' and metric == 'auroc'").iloc[0]
        held += row["low"] <= truth <= row["high"]
    assert 0.90 <= held / trials <= 0.99


def test_pairing_sees_what_two_separate_intervals_cannot() -> None:
    random = np.random.default_rng(0)
    known, unknown = scores(random, 1.0, 300, 300)
    group = Group({"a": known, "b": known}, {"near": {"a": unknown + 0.1, "b": unknown}})
    pairs, own = differences({"msp": group}, "all", 500)
    better = pairs.query("recipe == 'a' and set == 'near' and metric == 'auroc'").iloc[0]
    assert better["p"] < 0.05 and better["low"] > 0
    intervals = own.query("set == 'near' and metric == 'auroc'").set_index("recipe")
    assert intervals.loc["a", "low"] < intervals.loc["b", "high"]  # they overlap
    worse = pairs.query("recipe == 'b' and set == 'near' and metric == 'auroc'").iloc[0]
    assert worse["p"] == better["p"] and worse["delta"] == pytest.approx(-better["delta"])


def test_a_recipe_does_not_differ_from_itself() -> None:
    known, unknown = scores(np.random.default_rng(0), 1.0, 50, 40, seeds=3)
    group = Group({"a": known, "b": known.copy()}, {"near": {"a": unknown, "b": unknown.copy()}})
    pairs, _ = differences({"msp": group}, "all", 100)
    assert (pairs["p"] == 1).all() and (pairs[["delta", "low", "high"]] == 0).all(axis=None)


def test_seeds_that_disagree_make_no_difference() -> None:
    """Two seeds in favour and one against: an interval of images alone would say better."""
    random = np.random.default_rng(0)
    known, unknown = scores(random, 1.0, 2000, 2000, seeds=3)
    shift = np.array([[0.5], [0.5], [-0.5]])
    group = Group({"a": known, "b": known}, {"near": {"a": unknown + shift, "b": unknown}})
    pairs, _ = differences({"msp": group}, "all", 500)
    assert (pairs["p"] > 0.05).all() and (pairs["low"] < 0).all() and (pairs["high"] > 0).all()
