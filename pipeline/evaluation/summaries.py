"""From scores of images to tables: metrics of every set, means over sets and seeds, the detector chosen."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipeline.artifacts.roles import OOD_ROLES
from pipeline.evaluation.metrics import METRICS, ood_metrics
from pipeline.evaluation.statistics import Group

FLAGGED_ID = 0.05  # share of ID test images above the threshold of `flagged_decoded`
NAMES = ("recipe", "seed", "set", "role", "key")  # columns of a frame of scores that are no detector's


def detectors_of(scores: pd.DataFrame) -> list[str]:
    """The detectors of a frame of scores: its columns but those of `NAMES`."""
    return [str(name) for name in scores.columns if name not in NAMES]


def measure(scores: pd.DataFrame) -> pd.DataFrame:
    """Metrics of every (recipe, seed, detector) on every OOD set, in percent, one row per set.

    Test sets are compared with ID test images, validation sets against ID validation images. `constant` says that a
    detector gives every image of the set one score.

    Args:
        scores: one row per image: `NAMES`, and one column per detector.
    """
    rows = []
    for (recipe, seed), model in scores.groupby(["recipe", "seed"], sort=False, observed=True):
        sets = dict(list(model.groupby("set", sort=False, observed=True)))
        for split, roles in OOD_ROLES.items():
            for name, members in sets.items():
                if (role := str(members["role"].iloc[0])) not in roles or split not in sets:
                    continue
                for detector in detectors_of(scores):
                    values = members[detector].to_numpy()
                    about = {"recipe": recipe, "seed": seed, "detector": detector, "set": name, "role": role}
                    constant = {"constant": bool(np.ptp(values) == 0)}
                    rows.append(about | ood_metrics(sets[split][detector].to_numpy(), values) | constant)
    return pd.DataFrame(rows, columns=["recipe", "seed", "detector", "set", "role", *METRICS, "constant"])


def spread(values: pd.Series) -> dict[str, float]:
    """Mean and estimated standard deviation over seeds (ddof 1; 0 of a single one), to 4 decimals of a percent."""
    std = values.std(ddof=1) if len(values) > 1 else 0.0
    return {"mean": round(float(values.mean()), 4), "std": round(float(std), 4)}


def _spreads(measured: pd.DataFrame, column: str) -> dict[tuple[str, str, str], dict[str, dict[str, float]]]:
    """(recipe, detector, value of the column) -> each metric's mean over sets for each seed, then its spread."""
    names = ["recipe", "detector", column]
    by_seed = measured.groupby([*names, "seed"], observed=True)[list(METRICS)].mean()
    over_seeds = by_seed.groupby(level=names, observed=True)
    means, stds = over_seeds.mean().round(4), over_seeds.std(ddof=1).fillna(0.0).round(4)
    spreads = {}
    for key, mean, std in zip(means.index, means.to_numpy(), stds.to_numpy(), strict=True):
        pairs = zip(METRICS, mean.tolist(), std.tolist(), strict=True)
        spreads[key] = {metric: {"mean": own, "std": spread} for metric, own, spread in pairs}
    return spreads


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
    shown = measured[measured["role"].isin(OOD_ROLES[split])]
    by_role, by_set, sets = _spreads(shown, "role"), _spreads(shown, "set"), sorted(set(shown["set"]))
    roles = dict(zip(("near", "far"), OOD_ROLES[split], strict=True))
    summary: dict[str, Any] = {}
    for recipe, own in accuracies[accuracies["split"] == split].groupby("recipe", sort=False, observed=True):
        for name in names:
            entry: dict[str, Any] = {"id_accuracy": spread(own["accuracy"])}
            entry |= {group: by_role[key] for group, role in roles.items() if (key := (recipe, name, role)) in by_role}
            entry["sets"] = {one: by_set[key] for one in sets if (key := (recipe, name, one)) in by_set}
            summary.setdefault(str(recipe), {})[name] = entry
    return summary


def flagged_decoded(scores: pd.DataFrame) -> dict[str, Any]:
    """recipe -> detector -> {mean, std}: percent of decoded ID test images flagged where 5 % of the originals are.

    A classifier that learned "decoded" in place of "unknown" flags far more. Empty without decoded images.
    """
    id_scores, decoded = scores[scores["set"] == "test"], scores[scores["role"] == "decoded"]
    names = detectors_of(scores)
    found: dict[str, Any] = {}
    for recipe, own in decoded.groupby("recipe", sort=False, observed=True):
        thresholds = id_scores[id_scores["recipe"] == recipe].groupby("seed")[names].quantile(1 - FLAGGED_ID)
        flagged = own[names].to_numpy() > thresholds.loc[own["seed"]].to_numpy()
        shares = 100 * pd.DataFrame(flagged, columns=names).groupby(own["seed"].to_numpy()).mean()
        found[str(recipe)] = {name: spread(shares[name]) for name in names}
    return found


def headline(summary: dict[str, Any], flagged: dict[str, Any], chosen: str) -> dict[str, Any]:
    """The few numbers to compare runs by: recipe -> {id_accuracy, own, chosen}, means over seeds in percent.

    `own` is the score a model ships with, `chosen` the detector of `choose_detector`; each has near_auroc, near_fpr95,
    far_auroc, far_fpr95 and decoded_flagged, as far as there are such sets, and `own` only where there is such a score.

    Args:
        summary: of `summarise`, on test sets.
        flagged: of `flagged_decoded`.
    """
    found: dict[str, Any] = {}
    for recipe, entry in summary.items():
        found[recipe] = {"id_accuracy": round(entry[chosen]["id_accuracy"]["mean"], 2)}
        for label, detector in (("own", "own"), ("chosen", chosen)):
            if detector in entry:
                found[recipe][label] = _numbers(entry[detector], flagged.get(recipe, {}).get(detector))
    return found


def _numbers(entry: dict[str, Any], decoded: dict[str, float] | None) -> dict[str, float]:
    numbers = {
        f"{group}_{metric}": entry[group][metric]
        for group in ("near", "far")
        if group in entry
        for metric in ("auroc", "fpr95")
    } | ({"decoded_flagged": decoded} if decoded else {})
    return {name: round(value["mean"], 2) for name, value in numbers.items()}


def choose_detector(
    validation: dict[str, Any], names: Sequence[str], trained_on_validation: Collection[str] = ()
) -> dict[str, Any]:
    """The detector to look at first: the best mean validation AUROC over recipes and groups, never test data.

    Without validation OOD sets nothing can be chosen: the first one, and no AUROC.

    Args:
        validation: of `summarise`, on validation sets.
        names: of the detectors.
        trained_on_validation: recipes that saw the OOD validation images, which would say too much of them.
    """
    unseen = {recipe: entry for recipe, entry in validation.items() if recipe not in trained_on_validation}
    means: dict[str, float | None] = {}
    for name in names:
        entries = [
            entry[name][group]
            for entry in (unseen or validation).values()
            for group in ("near", "far")
            if group in entry[name]
        ]
        means[name] = round(float(np.mean([entry["auroc"]["mean"] for entry in entries])), 4) if entries else None
    return {"detector": leading(means), "validation_auroc": means}


def leading(means: Mapping[str, float | None]) -> str:
    """The detector with the best mean validation AUROC; the first one where nothing can be chosen."""
    return max(means, key=lambda name: means[name] or 0.0)


def groups(scores: pd.DataFrame, models_per_unit: int = 1) -> dict[str, dict[str, Group]]:
    """Scores for the bootstrap: group of test sets -> detector -> its scores by recipe, seed and set.

    Args:
        scores: one row per image, see `NAMES`.
        models_per_unit: so many seeds in a row are of one run.

    Raises:
        ValueError: recipes have different seeds or images, so that nothing can be paired.
    """
    found: dict[str, dict[str, Group]] = {}
    for detector in detectors_of(scores):
        table = scores.set_index(list(NAMES))[detector].unstack(["recipe", "seed"], sort=False)
        if table.isna().any(axis=None) or len(set(table.columns.get_level_values("recipe").value_counts())) > 1:
            raise ValueError("recipes have not the same seeds and images")
        id_scores = _by_recipe(table.xs("test", level="set"))
        for role in OOD_ROLES["test"]:
            if role in table.index.get_level_values("role"):
                own = table.xs(role, level="role")
                sets = own.index.get_level_values("set").unique()
                ood_scores = {name: _by_recipe(own.xs(name, level="set")) for name in sets}
                found.setdefault(role, {})[detector] = Group(id_scores, ood_scores, models_per_unit)
    return found


def _by_recipe(rows: Any) -> dict[str, np.ndarray]:
    """Scores of a set, (seeds, images) by recipe."""
    return {str(name): rows[name].to_numpy().T for name in rows.columns.get_level_values("recipe").unique()}
