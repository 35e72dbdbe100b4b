"""Splits are the units: every number against a computation by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from pipeline.evaluation.held_out import in_words, summarise


def frame() -> pd.DataFrame:
    random, rows = np.random.default_rng(0), []
    for split in range(3):
        for seed in (0, 1):
            for name, role, count, distance in (
                ("test", "id", 40, 0),
                ("held-out", "near", 20, 1),
                ("sea", "far", 10, 3),
            ):
                for i in range(count):
                    score = random.normal(distance + 0.3 * split)
                    about = {"recipe": "baseline", "seed": seed, "split": split, "accuracy": 90.0 + split + seed}
                    of_class = f"c{split}{i % 2}" if role == "near" else ""
                    own = {
                        "set": name,
                        "role": role,
                        "key": str(i),
                        "own": score,
                        "p_value": 1 / (1 + np.exp(3 * score)),
                    }
                    rows.append(about | own | {"of_class": of_class})
    return pd.DataFrame(rows)


def test_every_number_is_over_splits_of_means_over_seeds() -> None:
    scores = frame()
    found = summarise(scores)["baseline"]
    assert (found["splits"], found["seeds"]) == (3, 2)
    assert found["id_accuracy"] == {"mean": pytest.approx(91.5), "std": pytest.approx(1.0)}
    for key, name in (("noticed", "held-out"), ("false_alarms", "test")):
        shares = [
            np.mean(
                [
                    100
                    * (
                        scores[(scores.set == name) & (scores.split == split) & (scores.seed == seed)].p_value <= 0.05
                    ).mean()
                    for seed in (0, 1)
                ]
            )
            for split in range(3)
        ]
        assert found[key]["mean"] == pytest.approx(np.mean(shares), abs=1e-3)
        assert found[key]["std"] == pytest.approx(np.std(shares, ddof=1), abs=1e-3)
    areas = []
    for split in range(3):
        both = []
        for seed in (0, 1):
            own = scores[(scores.split == split) & (scores.seed == seed) & scores.set.isin(["test", "held-out"])]
            both.append(100 * roc_auc_score(own.role == "near", own.own))
        areas.append(np.mean(both))
    assert found["detectors"]["own"]["near"]["auroc"]["mean"] == pytest.approx(np.mean(areas), abs=1e-3)
    assert found["detectors"]["own"]["near"]["auroc"]["std"] == pytest.approx(np.std(areas, ddof=1), abs=1e-3)
    assert set(found["classes"]) == {f"c{split}{i}" for split in range(3) for i in range(2)}
    assert {own["images"] for own in found["classes"].values()} == {10}
    assert "over 3 splits" in in_words(found)


def test_differences_are_paired_by_split_and_those_of_a_t_test() -> None:
    one = frame()
    other = one.assign(recipe="mine", own=one["own"] + 0.5 * (one["role"] == "near"))
    scores = pd.concat([one, other])
    found = summarise(scores)
    assert found["baseline"]["differences"] == {}
    areas = {
        (recipe, split): np.mean(
            [
                100 * roc_auc_score(rows.role == "near", rows.own)
                for _, rows in own[own.set.isin(["test", "held-out"])].groupby("seed")
            ]
        )
        for (recipe, split), own in scores.groupby(["recipe", "split"])
    }
    before, after = ([areas[recipe, split] for split in range(3)] for recipe in ("baseline", "mine"))
    tested = stats.ttest_rel(after, before)
    difference = found["mine"]["differences"]["own"]
    assert difference["delta"] == pytest.approx(np.mean(after) - np.mean(before), abs=1e-3)
    assert difference["p"] == pytest.approx(tested.pvalue, rel=1e-4)
    low, high = tested.confidence_interval(0.95)
    assert (difference["low"], difference["high"]) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))


def test_a_single_split_says_nothing_of_differences() -> None:
    one = frame().query("split == 0")
    assert summarise(pd.concat([one, one.assign(recipe="mine")]))["mine"]["differences"] == {}
