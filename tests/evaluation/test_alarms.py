"""Every alarm goes off where it should, says where, and is silent else."""

from typing import Any

import pandas as pd

from pipeline.evaluation import alarms


def summary(accuracy: float = 90.0, **means: float) -> dict[str, Any]:
    sets = {name: {"auroc": {"mean": mean}} for name, mean in means.items()}
    return {"noise": {"energy": {"id_accuracy": {"mean": accuracy}, "sets": sets}}}


def measured(constant: bool) -> pd.DataFrame:
    return pd.DataFrame([{"recipe": "noise", "detector": "msp", "set": "moon", "constant": constant}])


def test_worse_than_guessing_and_constant() -> None:
    found = list(alarms.of_results(summary(moon=49.9, page=50.0, sea=20.0), measured(constant=True)))
    assert found == [
        "noise: energy is worse than guessing, by AUROC, on moon 49.9 %, sea 20.0 %",
        "noise: msp gives every image the same score on moon",
    ]
    assert not list(alarms.of_results(summary(moon=50.0), measured(constant=False)))


def test_accuracy_at_chance() -> None:
    assert "12.0 %, no better than guessing among 10 classes" in next(alarms.of_accuracy(summary(12.0), 10, 100))
    assert not list(alarms.of_accuracy(summary(12.0), 10, 10_000))  # so many images tell 12 from 10 %
    assert not list(alarms.of_accuracy(summary(60.0), 2, 1000))


def test_few_seeds() -> None:
    assert "seeds: 1, too few" in next(alarms.of_seeds(1)) and not list(alarms.of_seeds(3))


def test_decoded_images_flagged() -> None:
    shares = {"mixup": {"msp": {"mean": 15.0}}, "noise": {"msp": {"mean": 6.0}}}
    assert [line.split(":")[0] for line in alarms.of_shortcuts(shares, "msp")] == ["mixup"]


def test_sets_too_small_to_tell() -> None:
    row = {"recipe": "baseline", "detector": "msp", "metric": "auroc", "value": 90.0}
    rows = [
        row | {"set": "moon", "low": 80.0, "high": 96.0},
        row | {"set": "sea", "low": 89.0, "high": 91.0},
        row | {"set": "near", "low": 80.0, "high": 96.0},
    ]
    found = list(alarms.of_intervals(pd.DataFrame(rows), "msp", "baseline"))
    assert len(found) == 1 and "moon ±8.0" in found[0] and "sea" not in found[0] and "near ±" not in found[0]
    assert not list(alarms.of_intervals(pd.DataFrame(), "msp", "baseline"))


def test_sets_that_give_themselves_away() -> None:
    plain = {"in_training": 0, "grey": [0.0, 0.0], "files": ["PNG 32x32", "PNG 32x32"],
             "statistics": {"file size": 70.0, "sharpness": 60.0, "contrast": 70.0}}  # fmt: skip
    faults = {
        "copies": plain | {"in_training": 3},
        "grey": plain | {"grey": [100.0, 1.0]},
        "codec": plain | {"files": ["JPEG 64x64", "PNG 32x32"]},
        "sharp": plain | {"statistics": {"file size": 50.0, "sharpness": 97.0, "contrast": 70.0}},
        "small": plain | {"statistics": {"file size": 95.0, "sharpness": 60.0, "contrast": 70.0}},
    }
    sets = {"test": {"count": 9}} | {f"ood/{name}": {"count": 9, "audit": audit} for name, audit in faults.items()}
    sets["ood/small"]["one_photograph"] = True
    found = list(alarms.of_sets({"partial": ["mnist: 3 images, expected 70000"], "sets": sets}))
    for start, words in [
        ("partial benchmark: mnist", "expected 70000"), ("copies: 3 of 9", "training"), ("grey: 100 %", "colour"),
        ("other files", "JPEG 64x64 against PNG 32x32): codec"), ("one number", "sharp (sharpness 97 %)"),
        ("the size of the files", ": small 95 %"), ("tiles of one photograph", "says: small"),
    ]:  # fmt: skip
        assert sum(line.startswith(start) and words in line for line in found) == 1, start
    assert len(found) == 7
    assert not list(alarms.of_sets({"partial": [], "sets": {"ood/plain": {"count": 9, "audit": plain}}}))
