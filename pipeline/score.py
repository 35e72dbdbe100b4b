"""Score the cached outputs: detectors x OOD sets.

Reads: data/outputs.
Writes: metrics/{summary,validation,shortcuts,choice}.json, metrics/{seeds,scores}.parquet, metrics/roc.csv.
Why: by OpenOOD's definitions, in seconds and without a network: a changed detector or metric costs no inference.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from pipeline import params
from pipeline.artifacts import outputs
from pipeline.artifacts.files import replacing, write_json
from pipeline.artifacts.layout import METRICS, OUTPUTS
from pipeline.artifacts.outputs import Outputs
from pipeline.console import say, track
from pipeline.errors import UserError
from pipeline.evaluation import detectors
from pipeline.evaluation.metrics import METRICS as METRIC_NAMES
from pipeline.evaluation.metrics import accuracy, ood_metrics
from pipeline.evaluation.statistics import alarms

FLAGGED_ID = 0.05  # share of ID test images above the threshold of `flagged_decoded`
GROUPS = {"test": ("near", "far"), "val": ("val-near", "val-far")}  # ID split -> roles of its OOD sets


class Params(params.Section):
    detectors: dict[str, dict[str, Any]]


def score_model(folder: Path, settings: Params) -> Iterator[tuple[str, str, Outputs, np.ndarray]]:
    """Scores of one model: (detector, set, outputs, scores) for every detector and set but the training set."""
    found = {path.stem: outputs.load(path) for path in sorted(folder.glob("*.parquet")) if path.stem != "head"}
    if missing := {"train", "val", "test"} - set(found):
        raise UserError(f"{folder}: no {sorted(missing)} outputs; run `dvc repro infer`")
    head, names = outputs.load_head(folder / "head.parquet"), sorted(set(found) - {"train"})
    together = outputs.concatenate([found[name] for name in names])  # one call costs less than one a set
    ends = np.cumsum([len(found[name]) for name in names])[:-1]
    for detector, options in settings.detectors.items():
        scorer = detectors.fit(detector, options, found["train"], found["val"], head)
        for name, scores in zip(names, np.split(scorer(together), ends), strict=True):
            # outliers may well all look the same to a classifier; ID images never
            if not np.isfinite(scores).all() or (found[name].role == "id" and np.ptp(scores) == 0):
                raise UserError(f"{folder}: {detector} on {name}: constant or not finite; drop it from score.detectors")
            yield detector, name, found[name], scores


def measure(scores: pd.DataFrame) -> pd.DataFrame:
    """Metrics of every (recipe, seed, detector) on every OOD set, in percent, a row a set.

    Test sets are held against ID test images, validation sets against ID validation images.
    """
    rows = []
    for (recipe, seed, detector), block in scores.groupby(["recipe", "seed", "detector"], sort=False):
        for split, roles in GROUPS.items():
            id_scores = block.loc[block["set"] == split, "score"].to_numpy()
            for (name, role), members in block[block["role"].isin(roles)].groupby(["set", "role"], observed=True):
                values = ood_metrics(id_scores, members["score"].to_numpy())
                rows.append({"recipe": recipe, "seed": seed, "detector": detector, "set": name, "role": role} | values)
    return pd.DataFrame(rows, columns=["recipe", "seed", "detector", "set", "role", *METRIC_NAMES])


def _spread(values: pd.Series) -> dict[str, float]:
    """Mean and standard deviation over seeds (ddof 0), to 4 decimals of a percent."""
    return {"mean": round(float(values.mean()), 4), "std": round(float(values.std(ddof=0)), 4)}


def _spreads(block: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Each metric's mean over sets for each seed, then its spread."""
    by_seed = block.groupby("seed")[list(METRIC_NAMES)].mean()
    return {metric: _spread(by_seed[metric]) for metric in METRIC_NAMES}


def summarise(
    measured: pd.DataFrame, accuracies: pd.DataFrame, names: list[str], split: Literal["val", "test"]
) -> dict[str, Any]:
    """recipe -> detector -> {id_accuracy, near, far, sets}; every value {mean, std} over seeds.

    A group's value is the unweighted mean over its sets, for each seed; one without a set is left out.

    Args:
        names: of the detectors.
    """
    summary: dict[str, Any] = {}
    for recipe, own in accuracies[accuracies["split"] == split].groupby("recipe", sort=False):
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
    found: dict[str, Any] = {}
    for (recipe, detector), block in scores.groupby(["recipe", "detector"], sort=False):
        known, decoded = block[block["set"] == "test"], block[block["role"] == "decoded"]
        if len(decoded):
            thresholds = known.groupby("seed")["score"].quantile(1 - FLAGGED_ID)
            flagged = decoded["score"] > decoded["seed"].map(thresholds)
            found.setdefault(str(recipe), {})[detector] = _spread(100 * flagged.groupby(decoded["seed"]).mean())
    return found


def choose(validation: dict[str, Any]) -> dict[str, Any]:
    """The detector to look at first: the best mean validation AUROC over recipes and groups, never test data.

    Without validation OOD sets nothing can be chosen: the first one, and no AUROC.
    """
    means: dict[str, float | None] = {}
    for name in next(iter(validation.values())):
        entries = [
            entry[name][group] for entry in validation.values() for group in ("near", "far") if group in entry[name]
        ]
        means[name] = round(float(np.mean([entry["auroc"]["mean"] for entry in entries])), 4) if entries else None
    return {"detector": max(means, key=lambda name: means[name] or 0.0), "validation_auroc": means}


def roc_points(scores: pd.DataFrame, detector: str) -> Iterator[dict[str, Any]]:
    """ROC curves of one detector by recipe and group, images of all seeds and sets pooled, thinned to 200 points."""
    block = scores[scores["detector"] == detector]
    for recipe, own in block.groupby("recipe", sort=False):
        for role in GROUPS["test"]:
            known, unknown = own.loc[own["set"] == "test", "score"], own.loc[own["role"] == role, "score"]
            if unknown.empty:
                continue
            positive = np.repeat([False, True], [len(known), len(unknown)])
            fpr, tpr, _ = roc_curve(positive, np.concatenate([known, unknown]))
            for i in np.unique(np.linspace(0, len(fpr) - 1, 200).astype(int)):
                curve = f"{recipe} {role}"
                yield {
                    "curve": curve,
                    "recipe": recipe,
                    "group": role,
                    "fpr": round(fpr[i], 5),
                    "tpr": round(tpr[i], 5),
                }


def collect(settings: Params) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of every image, and ID accuracies, of every model under data/outputs."""
    recipes = [name for name in params.read("recipes", dict) if (OUTPUTS / name).is_dir()]
    folders = [folder for name in recipes for folder in sorted((OUTPUTS / name).glob("s*"))]
    if not folders:
        raise UserError(f"{OUTPUTS}: no outputs of any recipe; run `dvc repro infer`, or `dvc pull`")
    scores, accuracies = [], []
    for folder in track(folders, "score", len(folders)):
        model = {"recipe": folder.parent.name, "seed": int(folder.name[1:])}
        seen = set()
        for detector, name, said, values in score_model(folder, settings):
            block = {"detector": detector, "set": name, "role": said.role, "key": said.keys, "score": values}
            scores.append(pd.DataFrame(model | block))
            if said.role == "id" and name not in seen:
                seen.add(name)
                value = accuracy(said.logits.numpy(), said.labels.numpy())
                accuracies.append(model | {"split": name, "accuracy": value})
    return pd.concat(scores, ignore_index=True), pd.DataFrame(accuracies)


def main() -> None:
    settings = params.read("score", Params)
    scores, accuracies = collect(settings)
    measured, names = measure(scores), list(settings.detectors)
    validation = summarise(measured, accuracies, names, "val")
    choice = choose(validation)
    tables = {
        "summary": summarise(measured, accuracies, names, "test"),
        "validation": validation,
        "shortcuts": flagged_decoded(scores),
        "choice": choice,
    }
    for name, content in tables.items():
        with replacing(METRICS / f"{name}.json") as path:
            write_json(path, content)
    for name, frame in {"seeds": measured, "scores": scores}.items():
        with replacing(METRICS / f"{name}.parquet") as path:
            frame.to_parquet(path, index=False)
    with replacing(METRICS / "roc.csv") as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["curve", "recipe", "group", "fpr", "tpr"])
        writer.writeheader()
        writer.writerows(roc_points(scores, choice["detector"]))
    for alarm in alarms(tables["summary"]):
        say(f"warning: {alarm}")
    for recipe, entry in tables["summary"].items():
        best = entry[choice["detector"]]
        say(f"score: {recipe}: {choice['detector']}: " + (", ".join(
            f"{group} AUROC {best[group]['auroc']['mean']:.1f} FPR95 {best[group]['fpr95']['mean']:.1f}"
            for group in ("near", "far") if group in best
        ) or "no OOD test set; name some under prepare.near and prepare.far"))  # fmt: skip
