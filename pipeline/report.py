"""Write the report, one self-contained page.

Reads: metrics, data/outliers, data/controls, data/images/manifest.json.
Writes: report/index.html, one page without anything from elsewhere.
Why: a table of means hides what the outliers look like and where a detector fails.
"""

import base64
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from pipeline import params, timings
from pipeline.artifacts import figures
from pipeline.artifacts.files import read_json, replacing
from pipeline.artifacts.layout import IMAGES, METRICS, REPORT
from pipeline.console import say
from pipeline.evaluation.statistics import alarms, compare

REFERENCE = "baseline"
CONTROL_RECIPES = ("distilled", "noise", "synthetic-id", "without-boundary")
OURS = "penumbra"
PACKAGES = (
    "torch", "torchvision", "timm", "diffusers", "accelerate", "webdataset", "pytorch-ood", "pytorch-metric-learning",
    "scikit-learn", "pyarrow", "dvc",
)  # fmt: skip
SHOWN = {"auroc": "AUROC", "fpr95": "FPR95"}


def against(summary: dict[str, Any], detector: str, recipe: str) -> list[dict[str, Any]]:
    """A row a reference (baseline, then the controls): differences of the recipe to it, by group and metric."""
    columns = [(group, metric) for group in ("near", "far") for metric in SHOWN]
    rows = []
    for reference in (REFERENCE, *CONTROL_RECIPES):
        if reference in summary:
            cells = []
            for group, metric in columns:
                own, other = (summary[name][detector].get(group, {}).get(metric) for name in (recipe, reference))
                cells.append(compare(own, other, metric) if own and other else None)
            rows.append({"reference": reference, "cells": cells})
    return rows


def table(summary: dict[str, Any], detector: str) -> list[dict[str, Any]]:
    """A row a recipe: ID accuracy, and for each group and metric the value and the difference to baseline."""
    rows = []
    for recipe, entry in summary.items():
        row: dict[str, Any] = {"recipe": recipe, "accuracy": entry[detector]["id_accuracy"], "cells": []}
        for group in ("near", "far"):
            for metric in SHOWN:
                value = entry[detector].get(group, {}).get(metric)
                base = summary.get(REFERENCE, {}).get(detector, {}).get(group, {}).get(metric)
                difference = compare(value, base, metric) if value and base and recipe != REFERENCE else None
                row["cells"].append({"value": value, "difference": difference})
        rows.append(row)
    return rows


def per_set(summary: dict[str, Any], detector: str) -> dict[str, dict[str, Any]]:
    """set -> recipe -> {mean, std} of the AUROC."""
    names = list(next(iter(summary.values()))[detector]["sets"])
    return {
        name: {recipe: entry[detector]["sets"][name]["auroc"] for recipe, entry in summary.items()} for name in names
    }


def costs() -> list[dict[str, Any]]:
    """Seconds and peak memory of each stage that ran in this checkout, in the pipeline's order."""
    found = timings.load()
    order = ["prepare", "autoencoder", "encode", "teacher", "boundary", "diffusion", "embedding", "mixup", "shards"]
    order += [name for name in found if name.startswith("train@")]
    return [{"stage": name} | found[name] for name in [*order, "infer", "score"] if name in found]


def inline(png: bytes) -> str:
    """A PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def pictures(summary: dict[str, Any], detector: str, folders: list[Path]) -> dict[str, Any]:
    """The figures by name, as data URIs."""
    scores, points = pd.read_parquet(METRICS / "scores.parquet"), pd.read_csv(METRICS / "roc.csv")
    contrasted = [name for name in (REFERENCE, OURS) if name in summary]
    return {
        "overview": inline(figures.overview(summary, detector, "auroc", f"AUROC, {detector}, %")),
        "histograms": inline(figures.histograms(scores, contrasted, detector)),
        "roc": inline(figures.roc_curves(points)),
        "sheets": [inline((folder / "contact-sheet.png").read_bytes()) for folder in folders],
        "grids": [inline(grid.read_bytes()) for folder in folders if (grid := folder / "class-grid.png").is_file()],
    }


def provenance() -> dict[str, str]:
    """Versions that decide the numbers. No host, path or time."""
    versions = {package: version(package) for package in PACKAGES}
    return {"python": platform.python_version(), "penumbra": version("penumbra")} | versions


def main() -> None:
    summary, choice = read_json(METRICS / "summary.json"), read_json(METRICS / "choice.json")
    detector = choice["detector"]
    # a set that was given to us may hold the controls too
    folders = list(dict.fromkeys(Path(params.read(f"train.{name}", str)) for name in ("outliers", "controls")))
    environment = Environment(
        loader=PackageLoader("pipeline", "."), autoescape=select_autoescape(default=True), undefined=StrictUndefined
    )
    page = environment.get_template("report.html.j2").render(
        choice=choice,
        tables={name: table(summary, name) for name in choice["validation_auroc"]},
        ours=OURS,
        against={name: against(summary, name, OURS) if OURS in summary else [] for name in choice["validation_auroc"]},
        alarms=list(alarms(summary)),
        sets=per_set(summary, detector),
        shortcuts=read_json(METRICS / "shortcuts.json"),
        recipes=list(summary),
        pictures=pictures(summary, detector, folders),
        datasets=[read_json(folder / "dataset.json") for folder in folders],
        manifest=read_json(IMAGES / "manifest.json"),
        costs=costs(),
        seeds=params.read("train.seeds", list),
        versions=provenance(),
        settings=yaml.safe_dump(yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8")), sort_keys=False),
    )
    with replacing(REPORT) as folder:
        folder.mkdir()
        (folder / "index.html").write_text(page, encoding="utf-8")
    say(f"report: {REPORT / 'index.html'}")
