"""Several whole runs as one: the run, with its own outliers, teacher and generators, is the unit that varies.

The seeds of a single run share its stage one, so that their spread says nothing of another autoencoder, diffusion model
or teacher. Runs of other `seed`s do.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from pipeline.evaluation import summaries
from pipeline.evaluation.statistics import differences
from pipeline.reporting import tables
from pipeline.reporting.results import MARKS, REFERENCE, Table
from pipeline.reporting.tables import Differences
from pipeline.runtime.errors import UserError, like, one_line
from pipeline.runtime.files import read_json


class Run(NamedTuple):
    """The tables that `score` wrote for a run."""

    scores: pd.DataFrame
    measured: pd.DataFrame
    summary: dict[str, Any]
    validation_auroc: dict[str, float | None]


def read(folder: Path) -> Run:
    """A run's folder of tables.

    Raises:
        UserError: it is none.
    """
    try:
        scores, measured = (pd.read_parquet(folder / f"{name}.parquet") for name in ("scores", "seeds"))
        choice = read_json(folder / "choice.json")["validation_auroc"]
        return Run(scores, measured, read_json(folder / "summary.json"), choice)
    except (OSError, ValueError, KeyError) as error:
        problem = one_line(error)[:200]
        raise UserError(f"{folder}: not the tables of a run ({problem}); name folders like `metrics`") from None


def pool(folders: Sequence[Path], resamples: int, reference: str = REFERENCE) -> list[Table]:
    """Results over runs, of the detector that validation chooses over all of them, and of the models' own score.

    Args:
        folders: of the tables of at least two runs, of the same recipes, detectors and test images.
        resamples: of the images.
        reference: the recipe that the others are compared with.

    Raises:
        UserError: the runs do not go together, or have no such recipe.
    """
    if len(folders) < 2 or len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError(f"pool: {len(folders)} folders, expected two runs or more, each once")
    runs = [read(folder) for folder in folders]
    _check_alike(folders, runs)
    if reference not in (known := list(runs[0].summary)):
        raise UserError(f"pool: no recipe {reference!r}{like(reference, known)}; --against takes {', '.join(known)}")
    votes = pd.DataFrame([run.validation_auroc for run in runs], dtype=float).mean().fillna(0.0).to_dict()
    detector = summaries.leading(votes)
    shown = [name for name in dict.fromkeys((detector, "own")) if name in votes]
    summary, compared = _summary(runs, shown), _differences(runs, shown, resamples)
    return [table for name in shown for table in _tables(summary, compared, name, reference, len(runs))]


def _check_alike(folders: Sequence[Path], runs: Sequence[Run]) -> None:
    """The same recipes and detectors, as many training seeds, and none of them twice."""
    seeds = [set(run.measured["seed"]) for run in runs]
    for folder, run, own in zip(folders, runs, seeds, strict=True):
        about = sorted(run.validation_auroc), sorted(run.summary), len(own)
        if about != (sorted(runs[0].validation_auroc), sorted(runs[0].summary), len(seeds[0])):
            raise UserError(
                f"{folder}: other recipes, detectors or number of seeds than {folders[0]}; score both alike"
            )
    if shared := [seed for seed, times in Counter(seed for own in seeds for seed in own).items() if times > 1]:
        raise UserError(
            f"pool: training seed {min(shared)} is in several runs, whose classifiers then draw alike and differ less "
            "than runs do; give each run `train.seeds` of its own"
        )


def _summary(runs: Sequence[Run], names: list[str]) -> dict[str, Any]:
    """As `summaries.summarise`, every value a run's mean over its training seeds."""
    keys = ["recipe", "detector", "set", "role"]
    measured = [
        run.measured.groupby(keys, sort=False, observed=True).mean(numeric_only=True).reset_index().assign(seed=i)
        for i, run in enumerate(runs)
    ]
    accuracies = [
        {"recipe": recipe, "seed": i, "split": "test", "accuracy": next(iter(entry.values()))["id_accuracy"]["mean"]}
        for i, run in enumerate(runs)
        for recipe, entry in run.summary.items()
    ]
    return summaries.summarise(pd.concat(measured), pd.DataFrame(accuracies), names, "test")


def _differences(runs: Sequence[Run], names: list[str], resamples: int) -> Differences:
    columns = [*summaries.NAMES, *names]
    frames = [run.scores[columns].astype(dict.fromkeys(("recipe", "set", "role"), str)) for run in runs]
    try:
        groups = summaries.groups(pd.concat(frames, ignore_index=True), runs[0].scores["seed"].nunique())
    except ValueError:
        raise UserError("pool: the runs have not the same test images; runs of a folder that was split anew by each "
                        "`seed` cannot be pooled, give it splits of its own") from None  # fmt: skip
    return Differences(pd.concat([differences(group, name, resamples)[0] for name, group in groups.items()]))


def _tables(summary: dict[str, Any], compared: Differences, name: str, reference: str, runs: int) -> list[Table]:
    rows = tables.results(summary, name, compared, reference)
    title = f"Results, {name}, mean and standard deviation over {runs} runs in %. {MARKS.format(reference)}"
    found = [Table(f"results-{name}", title, tables.results_frame(rows, {}))]
    others = [recipe for recipe in summary if recipe != reference]
    if others:
        cells = compared.find(name, [(recipe, reference) for recipe in others])
        differing = [{"reference": recipe, "cells": own} for recipe, own in zip(others, cells, strict=True)]
        frame = tables.differences_frame(differing).rename(columns={"against": "recipe"})
        title = f"Each recipe minus {reference}, {name}, in points, with 95 % intervals."
        found.append(Table(f"differences-{name}", title, frame))
    return found
