"""The report's tables, as rows for the page, as Markdown and as LaTeX."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.artifacts.dataset_json import audit_rows, separations
from pipeline.evaluation.alarms import strongest_statistic
from pipeline.evaluation.intervals import holm, verdict
from pipeline.shortcuts.matching import Match

SHOWN = {"auroc": "AUROC ↑", "fpr95": "FPR95 ↓"}
GROUPS = ("near", "far")
NONE = "–"  # noqa: RUF001  an en dash, where there is no value
HELD_OUT = (
    "Classes that were never shown: each recipe trained without them, by the score that it ships with; mean and "
    "standard deviation over splits in %. Noticed: their images that are called unknown, where the share of known "
    "images beside it is. All are of one source: no camera and no sharpness tells them apart."
)
HELD_OUT_DETECTORS = (
    "Classes that were never shown: AUROC by detector, mean and standard deviation over splits in %. (+) and (-): "
    "better and worse than {} at 5 %, by Student's t over the splits' differences, of all comparisons in this table "
    "(Holm)."
)
HELD_OUT_CLASSES = "Share of the images of each class that {} notices where it was never shown the class, in %."
Summary = Mapping[str, Any]
Found = dict[str, Any]  # value: {mean, std}; difference: delta, low, high, p, verdict; either may be None


class Differences:
    """Differences between recipes, looked up a table at a time; none where nothing was compared."""

    def __init__(self, table: pd.DataFrame):
        names = ["detector", "recipe", "reference", "set", "metric"]
        found = table.set_index(names)[["delta", "low", "high", "p"]] if len(table) else table
        self.rows: dict[Any, Any] = found.to_dict("index")

    def find(self, detector: str, pairs: Sequence[tuple[str, str]]) -> list[list[Found | None]]:
        """A row per pair of a recipe and its reference, a cell per group and metric: delta, low, high, p, verdict.

        The cells are one family of comparisons: their p values are adjusted by Holm's method, and verdicts are of
        these. The intervals are of each comparison by itself.
        """
        keys = [(detector, *pair, group, metric) for pair in pairs for group in GROUPS for metric in SHOWN]
        known = [key for key in keys if key in self.rows]
        adjusted = dict(zip(known, holm(np.array([self.rows[key]["p"] for key in known])), strict=True))
        cells = [
            self.rows[key] | {"p": p, "verdict": verdict(self.rows[key]["delta"], p, key[-1])}
            if (p := adjusted.get(key)) is not None
            else None
            for key in keys
        ]
        width = len(GROUPS) * len(SHOWN)
        return [cells[i : i + width] for i in range(0, len(cells), width)]


def results(summary: Summary, detector: str, differences: Differences, reference: str) -> list[Found]:
    """One row per recipe: ID accuracy, and for each group and metric the value and the difference to the reference."""
    compared = differences.find(detector, [(recipe, reference) for recipe in summary])
    rows = []
    for (recipe, entry), found in zip(summary.items(), compared, strict=True):
        values = [entry[detector].get(group, {}).get(metric) for group in GROUPS for metric in SHOWN]
        cells = [{"value": value, "difference": cell} for value, cell in zip(values, found, strict=True)]
        rows.append({"recipe": recipe, "accuracy": entry[detector]["id_accuracy"], "cells": cells})
    return rows


def against(summary: Summary, detector: str, differences: Differences, recipe: str) -> list[Found]:
    """One row per reference, every other recipe: differences of the recipe to it, by group and metric."""
    others = [other for other in summary if other != recipe]
    compared = differences.find(detector, [(recipe, other) for other in others])
    return [{"reference": other, "cells": cells} for other, cells in zip(others, compared, strict=True)]


def per_set(summary: Summary, detector: str, order: Sequence[str]) -> dict[str, dict[str, Any]]:
    """set -> recipe -> {mean, std} of the AUROC, the sets in the given order."""
    names = next(iter(summary.values()))[detector]["sets"]
    return {
        name: {recipe: entry[detector]["sets"][name]["auroc"] for recipe, entry in summary.items()}
        for name in sorted(names, key=list(order).index)
    }


def _mean(value: Mapping[str, float] | None) -> str:
    return f"{value['mean']:.1f}" if value else NONE


def _spread(value: Mapping[str, float] | None) -> str:
    return f"{_mean(value)} ± {value['std']:.1f}" if value else NONE


def results_frame(rows: Sequence[Found], flagged: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """`results` with one column per number; a difference that is more than chance is marked + or -.

    Args:
        flagged: recipe -> share of decoded ID images that it flags, {mean, std}; a column of its own if not empty.
    """
    columns = [f"{group} {name}" for group in GROUPS for name in SHOWN.values()]
    marks = {"better": " (+)", "worse": " (-)"}
    table = []
    for row in rows:
        values = [
            _spread(cell["value"]) + marks.get((cell["difference"] or {}).get("verdict", ""), "")
            for cell in row["cells"]
        ]
        decoded = [_spread(flagged.get(row["recipe"]))] if flagged else []
        table.append([row["recipe"], _spread(row["accuracy"]), *values, *decoded])
    return pd.DataFrame(
        table, columns=["recipe", "ID accuracy", *columns, *(["decoded ID flagged"] if flagged else [])]
    )


def sets_frame(sets: Mapping[str, Mapping[str, Any]], statistics: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """`per_set`, one row per recipe, and what tells the sets from ID without any network.

    Args:
        sets: at least one.
        statistics: set -> statistic of the pixels -> AUROC in percent.
    """
    recipes = next(iter(sets.values()))
    rows = [[recipe, *(_spread(values[recipe]) for values in sets.values())] for recipe in recipes]
    sharp = [f"{statistics[name]['sharpness']:.1f}" if name in statistics else NONE for name in sets]
    told = {name: strongest_statistic(statistics[name]) for name in sets if name in statistics}
    best = [f"{told[name][1]:.1f} ({told[name][0]})" if name in told else NONE for name in sets]
    ends = [["sharpness alone, no network", *sharp], ["most telling statistic alone", *best]]
    return pd.DataFrame([*rows, *ends], columns=["recipe", *sets])


def detectors_frame(summary: Summary, detectors: Sequence[str]) -> pd.DataFrame:
    """AUROC means by every detector, near / far, one row per recipe."""
    rows = [
        [
            recipe,
            *(" / ".join(_mean(entry[name].get(group, {}).get("auroc")) for group in GROUPS) for name in detectors),
        ]
        for recipe, entry in summary.items()
    ]
    return pd.DataFrame(rows, columns=["recipe", *detectors])


def matched_frame(found: Mapping[str, Mapping[str, Any]], matched: Mapping[str, Match]) -> pd.DataFrame:
    """AUROC at equal sharpness with 95 % intervals, one row per recipe and one column per set, and what it rests on."""
    rows = [
        [recipe, *(_within(own[name]) if name in own else "not matched" for name in matched)]
        for recipe, own in found.items()
    ]
    alone = [f"{match.own:.1f}" if match.share else NONE for match in matched.values()]
    shares = [f"{match.share:.0%}" for match in matched.values()]
    ends = [["sharpness alone, of the matched", *alone], ["images matched", *shares]]
    return pd.DataFrame([*rows, *ends], columns=["recipe", *matched])


def _within(found: Mapping[str, float]) -> str:
    return f"{found['value']:.1f} [{found['low']:.1f}, {found['high']:.1f}]"


def differences_frame(rows: Sequence[Found]) -> pd.DataFrame:
    """`against`, one row per reference, each difference with its 95 % interval and verdict."""
    columns = [f"{group} {name}" for group in GROUPS for name in SHOWN.values()]
    table = [[row["reference"], *map(_interval, row["cells"])] for row in rows]
    return pd.DataFrame(table, columns=["against", *columns])


def audit_frame(datasets: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """What single statistics and a probe tell of each pair of image sets, AUROC in %, one row per pair."""
    rows = separations(audit_rows(datasets))
    names = [name for name in rows[0] if name != "images"] if rows else []
    return pd.DataFrame([{"images": row["images"]} | {name: f"{row[name]:.1f}" for name in names} for row in rows])


def costs_frame(costs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Seconds and peak GiB, one row per stage, and what all took."""
    rows = [[one["stage"], f"{one['seconds']:.0f}", f"{one['peak_mib'] / 1024:.1f}"] for one in costs]
    total = ["in all", f"{sum(one['seconds'] for one in costs):.0f}", ""]
    return pd.DataFrame([*rows, total], columns=["stage", "seconds", "peak GiB"])


def _interval(found: Found | None) -> str:
    if found is None:
        return NONE
    return f"{found['delta']:+.1f} [{found['low']:+.1f}, {found['high']:+.1f}] {found['verdict']}"


def markdown(frame: pd.DataFrame) -> str:
    """A frame of texts as a Markdown table."""
    lines = [list(frame.columns), ["---"] * len(frame.columns), *frame.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def latex(frame: pd.DataFrame, caption: str) -> str:
    """A frame of texts as a LaTeX table, of the package booktabs."""
    text = frame.to_latex(index=False, escape=True, caption=caption.replace("%", r"\%"), position="ht")
    signs = {"±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", NONE: "--"}
    for sign, command in signs.items():
        text = text.replace(sign, command)
    return text


def held_out_frame(held_out: Summary) -> pd.DataFrame:
    """One row per recipe: what the splits that keep classes aside say."""
    rows = []
    for recipe, own in held_out.items():
        shipped = own["detectors"]["own"]
        metrics = {
            f"{group} {shown}": _spread(shipped[group][metric])
            for group in GROUPS
            if group in shipped
            for metric, shown in SHOWN.items()
        }
        shares = {"noticed": _spread(own["noticed"]), "known called unknown": _spread(own["false_alarms"])}
        rows.append({"recipe": recipe, "ID accuracy": _spread(own["id_accuracy"])} | shares | metrics)
    return pd.DataFrame(rows)


def held_out_detectors(held_out: Summary) -> pd.DataFrame:
    """Near AUROC, one row per recipe and one column per detector, marked where it differs from the reference's."""
    keys = [(recipe, name) for recipe, own in held_out.items() for name in own["differences"]]
    p_values = holm(np.array([held_out[recipe]["differences"][name]["p"] for recipe, name in keys]))
    adjusted, marks = dict(zip(keys, p_values, strict=True)), {"better": " (+)", "worse": " (-)"}

    def cell(recipe: str, name: str) -> str:
        own = held_out[recipe]
        found = own["differences"].get(name)
        said = verdict(found["delta"], adjusted[recipe, name], "auroc") if found else ""
        return _spread(own["detectors"][name]["near"]["auroc"]) + marks.get(said, "")

    rows = []
    for recipe, own in held_out.items():
        near = {name: cell(recipe, name) for name, roles in own["detectors"].items() if "near" in roles}
        chosen_by = own["detectors"]["own"].get("val-near")
        validation = {"own, validation": _spread(chosen_by["auroc"])} if chosen_by else {}
        rows.append({"recipe": recipe} | near | validation)
    return pd.DataFrame(rows)


def held_out_classes(own: Found) -> pd.DataFrame:
    """One row per class that was kept aside, the least noticed first."""
    rows = sorted(own["classes"].items(), key=lambda item: item[1]["noticed"])
    return pd.DataFrame(
        [{"class": name, "images": str(about["images"]), "noticed": f"{about['noticed']:.1f}"} for name, about in rows]
    )
