"""The headline: what is there is in it, what is missing has no key."""

from typing import Any

import pandas as pd

from pipeline.evaluation.summaries import choose_detector, headline, spread


def entry(accuracy: float, **groups: tuple[float, float]) -> dict[str, Any]:
    """What a summary says of a detector: AUROC and FPR95 of each group."""
    names = ("auroc", "fpr95")
    found = {
        group: {name: {"mean": value, "std": 1.0} for name, value in zip(names, values, strict=True)}
        for group, values in groups.items()
    }
    return {"id_accuracy": {"mean": accuracy, "std": 0.5}, **found, "sets": {}}


NEAR, FAR = (80.126, 40.0), (95.5, 12.344)
FLAGGED = {"a": {"own": {"mean": 5.554, "std": 0.0}, "knn": {"mean": 7.0, "std": 0.0}}}


def test_the_score_of_the_model_and_the_chosen_detector() -> None:
    summary = {"a": {"knn": entry(97.0, near=NEAR, far=FAR), "own": entry(97.0, near=FAR, far=NEAR)}}
    assert headline(summary, FLAGGED, "knn") == {
        "a": {
            "id_accuracy": 97.0,
            "own": {
                "near_auroc": 95.5, "near_fpr95": 12.34, "far_auroc": 80.13, "far_fpr95": 40.0, "decoded_flagged": 5.55,
            },
            "chosen": {
                "near_auroc": 80.13, "near_fpr95": 40.0, "far_auroc": 95.5, "far_fpr95": 12.34, "decoded_flagged": 7.0,
            },
        }
    }  # fmt: skip


def test_what_was_not_measured_has_no_key() -> None:
    found = headline({"a": {"knn": entry(97.0, near=NEAR)}}, {}, "knn")
    assert found == {"a": {"id_accuracy": 97.0, "chosen": {"near_auroc": 80.13, "near_fpr95": 40.0}}}
    found = headline({"a": {"own": entry(97.0, far=FAR)}}, {}, "own")
    assert found["a"]["own"] == found["a"]["chosen"] == {"far_auroc": 95.5, "far_fpr95": 12.34}
    found = headline({"a": {"own": entry(97.0)}}, FLAGGED, "own")
    assert found["a"]["own"] == found["a"]["chosen"] == {"decoded_flagged": 5.55}


def test_who_saw_the_validation_images_has_no_vote() -> None:
    validation = {
        "a": {"knn": entry(97.0, near=(80.0, 1), far=(82.0, 1)), "msp": entry(97.0, near=(70.0, 1), far=(72.0, 1))},
        "bound": {"knn": entry(97.0, near=(50.0, 1), far=(50.0, 1)), "msp": entry(97.0, near=(99.0, 1), far=(99.0, 1))},
    }
    assert choose_detector(validation, ["knn", "msp"])["detector"] == "msp"
    chosen = choose_detector(validation, ["knn", "msp"], {"bound"})
    assert chosen == {"detector": "knn", "validation_auroc": {"knn": 81.0, "msp": 71.0}}
    alone = {"bound": validation["bound"]}  # nobody else to ask
    assert choose_detector(alone, ["knn", "msp"], {"bound"})["detector"] == "msp"


def test_a_spread_is_the_estimate_of_that_of_all_seeds() -> None:
    assert spread(pd.Series([1.0, 3.0])) == {"mean": 2.0, "std": 1.4142}
    assert spread(pd.Series([1.0])) == {"mean": 1.0, "std": 0.0}
