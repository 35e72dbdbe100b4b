"""The headline: what is there is in it, what is missing has no key."""

from typing import Any

from pipeline.evaluation.summaries import headline


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
