"""The one sentence at the top of the report."""

from typing import Any

import pytest

from pipeline.reporting.headline import headline

ACCURACY = {"mean": 98.61, "std": 0.3}
HELD_OUT = {"noticed": {"mean": 41.4, "std": 3.0}, "false_alarms": {"mean": 5.12, "std": 0.2}}


def cell(mean: float | None, delta: float | None = None, verdict: str = "") -> dict[str, Any]:
    difference = None if delta is None else {"delta": delta, "verdict": verdict}
    return {"value": None if mean is None else {"mean": mean, "std": 1.0}, "difference": difference}


def row(near: dict[str, Any], far: dict[str, Any]) -> dict[str, Any]:
    """A row of `tables.results`; FPR95 stands beside each AUROC."""
    return {"recipe": "mine", "accuracy": ACCURACY, "cells": [near, cell(1.0), far, cell(2.0)]}


@pytest.mark.parametrize(
    ("own", "held_out", "said"),
    [
        (
            row(cell(98.94, 1.06, "better"), cell(50.0, -0.04, "no difference")), HELD_OUT,
            "mine tells near OOD from ID images at an AUROC of 98.9 % (better than baseline, +1.1) and far OOD from ID "
            "images at an AUROC of 50.0 % (no different from baseline, -0.0), by knn; 98.6 % of the ID test images are "
            "classified correctly.",
        ),
        (
            row(cell(None), cell(70.0)), None,
            "mine tells far OOD from ID images at an AUROC of 70.0 %, by knn; 98.6 % of the ID test images are "
            "classified correctly.",
        ),
        (
            row(cell(None), cell(None)), HELD_OUT,
            "Of classes that it was never shown mine notices 41 % of the images, with 5.1 % false alarms; 98.6 % of "
            "the ID test images are classified correctly.",
        ),
        (
            row(cell(None), cell(None)), None,
            "No OOD test set was given, so nobody knows what mine notices; 98.6 % of the ID test images are classified "
            "correctly.",
        ),
    ],
)  # fmt: skip
def test_a_run_in_a_sentence(own: dict[str, Any], held_out: dict[str, Any] | None, said: str) -> None:
    assert headline(own, "knn", "baseline", held_out) == said
