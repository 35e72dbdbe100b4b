"""The report's figures, as SVG: sharp on paper, and in the page's own ink, light or dark."""

import io
import re
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")  # no display needed
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ["#64748b", "#c2710c", "#0d9488", "#3b82f6", "#8b5cf6", "#e11d48", "#16a34a", "#0891b2", "#a16207"]
GROUPS = ("near", "far")
GROUP_COLOURS = {"ID": "#3b82f6", "near": "#d97706", "far": "#16a34a"}
PACKED, SURPLUS = "#16a34a", "#a3a3a3"
P = ParamSpec("P")
INK = "#010203"  # stands for the page's colour of text
STYLE = {
    "axes.spines.top": False, "axes.spines.right": False, "font.size": 10, "svg.fonttype": "none",
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "legend.facecolor": "none",
}  # fmt: skip


def styled(draw: Callable[P, str]) -> Callable[P, str]:
    """A figure in this style; what else is drawn in the process keeps its own."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> str:
        with plt.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def _svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element, without ids that another figure on the page could have too."""
    buffer = io.StringIO()
    with plt.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r'<g id="[a-zA-Z0-9_.]+">', "<g>", text)


def _panels(has: Callable[[str], bool]) -> list[str]:
    """The OOD groups to draw beside each other: those that there are, or both, empty, where there is none."""
    return [group for group in GROUPS if has(group)] or list(GROUPS)


def _colours(recipes: Iterable[str]) -> dict[str, str]:
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(recipes)}


@styled
def overview(summary: Mapping[str, Any], detector: str, metric: str, title: str) -> str:
    """Mean and standard deviation of one metric by recipe, near beside far."""
    groups = _panels(lambda group: any(group in entry[detector] for entry in summary.values()))
    figure, axes = plt.subplots(
        1, len(groups), figsize=(9, 0.36 * len(summary) + 1.1), sharey=True, squeeze=False, layout="constrained"
    )
    names, colours = list(summary), _colours(summary)
    for axis, group in zip(axes[0], groups, strict=True):
        for i, name in enumerate(names):
            if value := summary[name][detector].get(group, {}).get(metric):
                mean, std = value["mean"], value["std"]
                axis.errorbar(mean, i, xerr=std, fmt="o", color=colours[name], capsize=4, markersize=7)
        axis.set_title(f"{group}-OOD: {title}", loc="left", fontsize=10)
        axis.grid(axis="x", alpha=0.3)
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].invert_yaxis()
    return _svg(figure, "overview")


@styled
def histograms(scores: pd.DataFrame, recipes: list[str], detector: str) -> str:
    """Scores of ID, near and far test images by recipe, images of all seeds, as shares.

    Args:
        scores: one row per image: recipe, set, role, and the detector's column.
    """
    figure, axes = plt.subplots(1, len(recipes), figsize=(4.5 * len(recipes), 2.6), squeeze=False, layout="constrained")
    for axis, recipe in zip(axes[0], recipes, strict=True):
        own = scores[scores["recipe"] == recipe]
        groups = {"ID": own["set"] == "test", "near": own["role"] == "near", "far": own["role"] == "far"}
        shown = own.loc[groups["ID"] | groups["near"] | groups["far"], detector]
        bins = np.linspace(float(shown.min()), float(shown.quantile(0.99)), 50)
        for group, rows in groups.items():
            if not rows.any():
                continue
            values = own.loc[rows, detector].clip(upper=bins[-1])
            weights = np.full(len(values), 1 / max(1, len(values)))
            axis.hist(values, bins, weights=weights, alpha=0.55, color=GROUP_COLOURS[group], label=group)
        axis.set_title(recipe, loc="left", fontsize=10)
        axis.set_xlabel(f"{detector} score, larger is more OOD")
        axis.set_yscale("log")
    axes[0, 0].set_ylabel("share of images (log)")
    axes[0, -1].legend(frameon=False)
    return _svg(figure, "histograms")


def _curves(points: pd.DataFrame, draw: Callable[[Axes, pd.DataFrame], Any]) -> tuple[Figure, np.ndarray]:
    """Curves by recipe, near beside far, with one legend."""
    groups = _panels(lambda group: bool((points["group"] == group).any()))
    figure, grid = plt.subplots(1, len(groups), figsize=(9, 3.8), sharey=True, squeeze=False, layout="constrained")
    axes, colours = grid[0], _colours(points["recipe"].unique())
    for axis, group in zip(axes, groups, strict=True):
        for recipe, own in points[points["group"] == group].groupby("recipe", sort=False):
            draw(axis, own)
            axis.lines[-1].set(color=colours[str(recipe)], label=recipe)
        axis.set_title(f"{group}-OOD", loc="left", fontsize=10)
    if len(points):
        axes[-1].legend(frameon=False, fontsize=9)
    return figure, axes


@styled
def roc_curves(points: pd.DataFrame) -> str:
    """ROC curves by recipe; the false positive rate on a logarithmic axis."""
    figure, axes = _curves(points, lambda axis, own: axis.plot(own["fpr"].clip(lower=1e-3), own["tpr"], lw=1.4))
    for axis in axes:
        axis.axhline(0.95, color=INK, alpha=0.4, linewidth=0.8, linestyle="--")
        axis.set(xscale="log", xlabel="share of ID flagged (log)", ylim=(0.3, 1.01))
    axes[0].set_ylabel("share of OOD caught")
    return _svg(figure, "roc_curves")


@styled
def pr_curves(points: pd.DataFrame) -> str:
    """Precision-recall curves by recipe, OOD positive."""
    figure, axes = _curves(points, lambda axis, own: axis.plot(own["recall"], own["precision"], lw=1.4))
    for axis in axes:
        axis.set(xlabel="share of OOD caught (recall)", xlim=(0, 1.01))
    axes[0].set_ylabel("share of OOD among the flagged (precision)")
    return _svg(figure, "pr_curves")


@styled
def funnel(methods: Mapping[str, Mapping[str, Any]]) -> str:
    """What became of each method's candidates, as shares of them.

    Args:
        methods: method -> {candidates, packed, rejected: {reason: count}}, as in dataset.json.
    """
    reasons = sorted({reason for counts in methods.values() for reason in counts["rejected"]} - {"surplus"})
    colours = {"packed": PACKED, "surplus": SURPLUS} | dict(zip(reasons, COLOURS[1:] * 2, strict=False))
    figure, axis = plt.subplots(figsize=(9, 0.42 * len(methods) + 1.3), layout="constrained")
    for i, counts in enumerate(methods.values()):
        left = 0.0
        for part, count in {"packed": counts["packed"], "surplus": 0, **counts["rejected"]}.items():
            share = 100 * count / counts["candidates"]
            axis.barh(i, share, left=left, color=colours[part], height=0.6)
            left += share
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in colours.values()]
    axis.legend(handles, colours, frameon=False, fontsize=8, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    axis.set_yticks(range(len(methods)), [f"{name} ({counts['candidates']})" for name, counts in methods.items()])
    axis.set(xlabel="% of the candidates", xlim=(0, 100))
    axis.invert_yaxis()
    return _svg(figure, "funnel")
