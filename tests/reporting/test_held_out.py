"""The tables of classes that were never shown."""

from typing import Any

from pipeline.reporting.tables import held_out_detectors


def recipe(near: dict[str, float], differences: dict[str, tuple[float, float]], validation: bool = False) -> Any:
    """An entry of metrics/hold_out.json: AUROC and difference by detector; `odin` has no near set."""
    found: dict[str, Any] = {
        name: {"near": {"auroc": {"mean": mean, "std": 1.0}}, "far": {"auroc": {"mean": 99.0, "std": 0.1}}}
        for name, mean in near.items()
    }
    found["own"] = {"val-near": {"auroc": {"mean": 75.0, "std": 2.0}}} if validation else {}
    return {
        "detectors": found | {"odin": {"far": {"auroc": {"mean": 9.0, "std": 0.1}}}},
        "differences": {name: {"delta": delta, "p": p} for name, (delta, p) in differences.items()},
    }


def test_marks_are_of_the_whole_table() -> None:
    held_out = {
        "baseline": recipe({"msp": 80.0, "knn": 70.0}, {}),
        "mine": recipe({"msp": 84.0, "knn": 66.0}, {"msp": (4.0, 0.012), "knn": (-4.0, 0.001)}),
        "other": recipe({"msp": 81.0, "knn": 71.0}, {"msp": (1.0, 0.02), "knn": (1.0, 0.4)}),
    }
    table = held_out_detectors(held_out)
    assert list(table.columns) == ["recipe", "msp", "knn"]
    assert table.set_index("recipe").to_dict("index") == {
        "baseline": {"msp": "80.0 ± 1.0", "knn": "70.0 ± 1.0"},
        "mine": {"msp": "84.0 ± 1.0 (+)", "knn": "66.0 ± 1.0 (-)"},  # 0.012 * 3 and 0.001 * 4
        "other": {"msp": "81.0 ± 1.0 (+)", "knn": "71.0 ± 1.0"},  # 0.02 * 2 and 0.4
    }


def test_what_choices_are_made_on_stands_beside_where_classes_were_kept_for_it() -> None:
    table = held_out_detectors({"baseline": recipe({"msp": 80.0}, {}, validation=True)})
    assert table.to_dict("records") == [{"recipe": "baseline", "msp": "80.0 ± 1.0", "own, validation": "75.0 ± 2.0"}]


def test_a_recipe_alone_has_no_marks() -> None:
    assert held_out_detectors({"baseline": recipe({"msp": 80.0}, {})})["msp"].tolist() == ["80.0 ± 1.0"]
