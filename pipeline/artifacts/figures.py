"""The report's figures, as PNG bytes."""

import io
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")  # no display needed
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

COLOURS = ["#4b5563", "#b45309", "#0f766e", "#1d4ed8", "#7c3aed", "#be123c", "#15803d", "#0e7490"]
GROUP_COLOURS = {"ID": "#1d4ed8", "near": "#d97706", "far": "#15803d"}
plt.rcParams |= {"axes.spines.top": False, "axes.spines.right": False, "font.size": 10}


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def overview(summary: Mapping[str, Any], detector: str, metric: str, title: str) -> bytes:
    """Mean and standard deviation of one metric by recipe, near beside far."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 0.42 * len(summary) + 1.2), sharey=True, layout="constrained")
    names = list(summary)
    for axis, group in zip(axes, ("near", "far"), strict=True):
        for i, name in enumerate(names):
            value = summary[name][detector].get(group, {}).get(metric)
            if value:
                colour = COLOURS[i % len(COLOURS)]
                axis.errorbar(value["mean"], i, xerr=value["std"], fmt="o", color=colour, capsize=4, markersize=7)
        axis.set_title(f"{group}-OOD: {title}", loc="left", fontsize=10)
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    return _png(figure)


def histograms(scores: pd.DataFrame, recipes: list[str], detector: str) -> bytes:
    """Scores of ID, near and far test images by recipe, images of all seeds, as shares."""
    figure, axes = plt.subplots(1, len(recipes), figsize=(4.5 * len(recipes), 2.6), squeeze=False, layout="constrained")
    for axis, recipe in zip(axes[0], recipes, strict=True):
        own = scores[(scores["recipe"] == recipe) & (scores["detector"] == detector)]
        groups = {"ID": own["set"] == "test", "near": own["role"] == "near", "far": own["role"] == "far"}
        shown = own[groups["ID"] | groups["near"] | groups["far"]]["score"]
        bins = np.linspace(float(shown.min()), float(shown.quantile(0.99)), 60)
        for group, rows in groups.items():
            values = own.loc[rows, "score"].clip(upper=bins[-1])
            weights = np.full(len(values), 1 / max(1, len(values)))
            axis.hist(values, bins, weights=weights, alpha=0.55, color=GROUP_COLOURS[group], label=group)
        axis.set_title(recipe, loc="left", fontsize=10)
        axis.set_xlabel(f"{detector} score, larger is more OOD")
        axis.set_yscale("log")
    axes[0, 0].set_ylabel("share of images (log)")
    axes[0, -1].legend(frameon=False)
    return _png(figure)


def roc_curves(points: pd.DataFrame) -> bytes:
    """ROC curves by recipe, near beside far; the false positive rate on a logarithmic axis."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
    for axis, group in zip(axes, ("near", "far"), strict=True):
        for i, (recipe, own) in enumerate(points[points["group"] == group].groupby("recipe", sort=False)):
            axis.plot(own["fpr"].clip(lower=1e-3), own["tpr"], color=COLOURS[i % len(COLOURS)], label=recipe)
        axis.axhline(0.95, color="#9ca3af", linewidth=0.8, linestyle="--")
        axis.set(xscale="log", xlabel="share of ID flagged (log)", title=f"{group}-OOD", ylim=(0.3, 1.01))
    axes[0].set_ylabel("share of OOD caught")
    if len(points):
        axes[1].legend(frameon=False, fontsize=9)
    return _png(figure)
