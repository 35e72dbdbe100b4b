"""What the splits that keep classes aside say together: they differ more than anything else, so they are the units."""

from typing import Any

import numpy as np
import pandas as pd

from pipeline.evaluation import summaries
from pipeline.evaluation.intervals import half_width, p_value
from pipeline.evaluation.metrics import METRICS

FALSE_ALARMS = 0.05  # share of known images that may be called unknown
OTHERS = ("of_class", "split", "accuracy", "p_value")  # columns that are no detector's


def summarise(scores: pd.DataFrame, reference: str = "baseline") -> dict[str, Any]:
    """recipe -> {id_accuracy, noticed, false_alarms, detectors, differences, classes}.

    Every value is {mean, std} over splits, in percent, each the mean over seeds. `detectors` has the metrics of each by
    the role of the sets, `noticed` is the share of images of classes kept aside that are called unknown where
    `false_alarms` of the known ones are, by the p-values of the score that a model ships with. `classes` has the share
    of each class. `differences` compares near AUROC with that of the recipe `reference`, split by split: {delta, low,
    high, p} of each detector, by Student's t over splits.

    Args:
        scores: one row per image: `summaries.NAMES`, `OTHERS`, and one column per detector.
    """
    found: dict[str, Any] = {}
    by_split = {recipe: _by_split(own) for recipe, own in scores.groupby("recipe", sort=False)}
    for recipe, own in scores.groupby("recipe", sort=False):
        flagged = own.assign(unknown=100.0 * (own["p_value"] <= FALSE_ALARMS))
        near, known = flagged[flagged["role"] == "near"], flagged[flagged["set"] == "test"]
        near = near[near["set"] == "held-out"]
        found[str(recipe)] = {
            "splits": int(own["split"].nunique()),
            "seeds": int(own["seed"].nunique()),
            "id_accuracy": _over_splits(own, "accuracy"),
            "noticed": _over_splits(near, "unknown"),
            "false_alarms": _over_splits(known, "unknown"),
            "detectors": _spreads(by_split[recipe]),
            "differences": _differences(by_split, str(recipe), reference),
            "classes": {
                str(name): {
                    "images": int(len(rows) / rows["seed"].nunique()),
                    "noticed": round(rows["unknown"].mean(), 2),
                }
                for name, rows in near.groupby("of_class")
            },
        }
    return found


def _over_splits(rows: pd.DataFrame, column: str) -> dict[str, float]:
    by_seed = rows.groupby(["split", "seed"])[column].mean()
    return summaries.spread(by_seed.groupby("split").mean())


def _by_split(own: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """(detector, role) -> the metrics of each split, means over its sets and seeds."""
    parts = []
    for split, rows in own.groupby("split"):
        measured = summaries.measure(rows.drop(columns=list(OTHERS)))
        parts.append(measured.assign(split=split))
    together = pd.concat(parts)
    return {
        (str(detector), str(role)): rows.groupby(["split", "seed"])[list(METRICS)].mean().groupby("split").mean()
        for (detector, role), rows in together.groupby(["detector", "role"], sort=False, observed=True)
    }


def _spreads(by_split: dict[tuple[str, str], pd.DataFrame]) -> dict[str, Any]:
    """detector -> near and far, validation's too -> metric -> {mean, std}."""
    found: dict[str, Any] = {}
    for (detector, role), means in by_split.items():
        found.setdefault(detector, {})[role] = {name: summaries.spread(means[name]) for name in METRICS}
    return found


def _differences(by_split: dict[Any, dict[tuple[str, str], pd.DataFrame]], recipe: str, reference: str) -> Any:
    """detector -> {delta, low, high, p} of near AUROC over the splits that both have; {} where there are not two."""
    if recipe == reference or reference not in by_split:
        return {}
    found = {}
    for detector, means in ((name, means) for (name, role), means in by_split[recipe].items() if role == "near"):
        values = (means["auroc"] - by_split[reference][detector, "near"]["auroc"]).dropna().to_numpy()
        if len(values) > 1:
            delta, half = values.mean(), half_width(values, np.zeros(()))
            found[detector] = {
                "delta": round(float(delta), 4),
                "low": round(float(delta - half), 4),
                "high": round(float(delta + half), 4),
                "p": float(p_value(values, np.zeros(()))),
            }
    return found


def in_words(own: dict[str, Any]) -> str:
    """The result of a recipe in a line."""
    auroc = own["detectors"]["own"]["near"]["auroc"]
    return (
        f"notices {own['noticed']['mean']:.0f} % of the images of classes that it was never shown, and calls "
        f"{own['false_alarms']['mean']:.1f} % of known ones unknown; AUROC {auroc['mean']:.1f} ± {auroc['std']:.1f} "
        f"over {own['splits']} splits; {own['id_accuracy']['mean']:.1f} % of known images right"
    )
