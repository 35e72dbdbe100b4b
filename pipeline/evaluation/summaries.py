"""From scores of images to tables: metrics of every set, means over sets and seeds, the detector chosen."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipeline.evaluation.metrics import METRICS, ood_metrics
from pipeline.evaluation.statistics import Group

FLAGGED_ID = 0.05  # share of ID test images above the threshold of `flagged_decoded`
GROUPS = {"test": ("near", "far"), "val": ("val-near", "val-far")}  # ID split -> roles of its OOD sets
NAMES = ("recipe", "seed", "set", "role", "key")  # columns of a frame of scores that are no detector's


def detectors_of(scores: pd.DataFrame) -> list[str]:
    """The detectors of a frame of scores: its columns but those of `NAMES`."""
    return [str(name) for name in scores.columns if name not in NAMES]


def measure(scores: pd.DataFrame) -> pd.DataFrame:
    """Metrics of every (recipe, seed, detector) on every OOD set, in percent, a row a set.

    Test sets are held against ID test images, validation sets against ID validation images. `constant` says that a
    detector gives every image of the set one score.

    Args:
        scores: a row an image: `NAMES`, and a column a detector.
    """
    rows = []
    for (recipe, seed), model in scores.groupby(["recipe", "seed"], sort=False, observed=True):
        sets = dict(list(model.groupby("set", sort=False, observed=True)))
        for split, roles in GROUPS.items():
            for name, members in sets.items():
                if (role := str(members["role"].iloc[0])) not in roles or split not in sets:
                    continue
                for detector in detectors_of(scores):
                    values = members[detector].to_numpy()
                    about = {"recipe": recipe, "seed": seed, "detector": detector, "set": name, "role": role}
                    constant = {"constant": bool(np.ptp(values) == 0)}
                    rows.append(about | ood_metrics(sets[split][detector].to_numpy(), values) | constant)
    return pd.DataFrame(rows, columns=["recipe", "seed", "detector", "set", "role", *METRICS, "constant"])


def _spread(values: pd.Series) -> dict[str, float]:
    """Mean and standard deviation over seeds (ddof 0), to 4 decimals of a percent."""
    return {"mean": round(float(values.mean()), 4), "std": round(float(values.std(ddof=0)), 4)}


def _spreads(block: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Each metric's mean over sets for each seed, then its spread."""
    by_seed = block.groupby("seed")[list(METRICS)].mean()
    return {metric: _spread(by_seed[metric]) for metric in METRICS}


def summarise(
    measured: pd.DataFrame, accuracies: pd.DataFrame, names: Sequence[str], split: Literal["val", "test"]
) -> dict[str, Any]:
    """recipe -> detector -> {id_accuracy, near, far, sets}; every value {mean, std} over seeds.

    A group's value is the unweighted mean over its sets, for each seed; one without a set is left out.

    Args:
        measured: of `measure`.
        accuracies: recipe, seed, split, accuracy.
        names: of the detectors.
    """
    summary: dict[str, Any] = {}
    for recipe, own in accuracies[accuracies["split"] == split].groupby("recipe", sort=False, observed=True):
        for detector in names:
            block = measured[(measured["recipe"] == recipe) & (measured["detector"] == detector)]
            entry: dict[str, Any] = {"id_accuracy": _spread(own["accuracy"])}
            for group, role in zip(("near", "far"), GROUPS[split], strict=True):
                if (block["role"] == role).any():
                    entry[group] = _spreads(block[block["role"] == role])
            shown = block[block["role"].isin(GROUPS[split])]
            entry["sets"] = {name: _spreads(members) for name, members in shown.groupby("set")}
            summary.setdefault(str(recipe), {})[detector] = entry
    return summary


def flagged_decoded(scores: pd.DataFrame) -> dict[str, Any]:
    """recipe -> detector -> {mean, std}: percent of decoded ID test images flagged where 5 % of the originals are.

    A classifier that learned "decoded" in place of "unknown" flags far more. Empty without decoded images.
    """
    known, decoded = scores[scores["set"] == "test"], scores[scores["role"] == "decoded"]
    names = detectors_of(scores)
    found: dict[str, Any] = {}
    for recipe, own in decoded.groupby("recipe", sort=False, observed=True):
        thresholds = known[known["recipe"] == recipe].groupby("seed")[names].quantile(1 - FLAGGED_ID)
        flagged = own[names].to_numpy() > thresholds.loc[own["seed"]].to_numpy()
        shares = 100 * pd.DataFrame(flagged, columns=names).groupby(own["seed"].to_numpy()).mean()
        found[str(recipe)] = {name: _spread(shares[name]) for name in names}
    return found


def choose_detector(validation: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The detector to look at first: the best mean validation AUROC over recipes and groups, never test data.

    Without validation OOD sets nothing can be chosen: the first one, and no AUROC.
    """
    means: dict[str, float | None] = {}
    for name in names:
        entries = [
            entry[name][group] for entry in validation.values() for group in ("near", "far") if group in entry[name]
        ]
        means[name] = round(float(np.mean([entry["auroc"]["mean"] for entry in entries])), 4) if entries else None
    return {"detector": max(means, key=lambda name: means[name] or 0.0), "validation_auroc": means}


def groups(scores: pd.DataFrame, detector: str) -> Iterator[tuple[str, Group]]:
    """One detector's scores on each group of test sets, by recipe and seed, for the bootstrap.

    Raises:
        ValueError: recipes have different seeds or images, so that nothing can be paired.
    """
    tables = scores.set_index(list(NAMES))[detector].unstack(["recipe", "seed"], sort=False)
    if tables.isna().any(axis=None) or len(set(tables.columns.get_level_values("recipe").value_counts())) > 1:
        raise ValueError("recipes have not the same seeds and images")
    recipes = list(tables.columns.get_level_values("recipe").unique())

    def by_recipe(rows: Any) -> dict[str, np.ndarray]:
        return {recipe: rows[recipe].to_numpy().T for recipe in recipes}

    known = by_recipe(tables.xs("test", level="set"))
    for role in GROUPS["test"]:
        if role in tables.index.get_level_values("role"):
            own = tables.xs(role, level="role")
            sets = own.index.get_level_values("set").unique()
            yield role, Group(known, {name: by_recipe(own.xs(name, level="set")) for name in sets})
