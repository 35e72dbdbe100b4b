"""Score the cached outputs: detectors x OOD sets, and what differs by more than chance.

Reads: data/outputs.
Writes: metrics/headline.json, which `dvc metrics` shows; metrics/{summary,validation,shortcuts,choice}.json,
metrics/{scores,seeds,differences,intervals}.parquet, metrics/{roc,pr}.csv.
Why: by OpenOOD's definitions, in seconds and without a network: a changed detector or metric costs no inference.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from ruamel.yaml import YAML

from pipeline.artifacts import outputs
from pipeline.artifacts.outputs import OutputFile
from pipeline.evaluation import summaries
from pipeline.evaluation.alarms import of_results
from pipeline.evaluation.curves import curves
from pipeline.evaluation.scoring import Options, score_model
from pipeline.evaluation.statistics import differences
from pipeline.presets import compose
from pipeline.runtime.console import log, track
from pipeline.runtime.destination import Kind, destination, others
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import atomic_write, read_json, write_json
from pipeline.runtime.layout import METRICS_DIR, OUTPUTS
from pipeline.settings import openood, params
from pipeline.settings.methods import bases
from pipeline.settings.recipes import Recipes
from pipeline.settings.score import ScoreSettings

Frames = dict[str, pd.DataFrame]


WRITTEN = (
    "headline.json", "summary.json", "validation.json", "shortcuts.json", "choice.json", "scores.parquet",
    "seeds.parquet", "differences.parquet", "intervals.parquet", "roc.csv", "pr.csv",
)  # fmt: skip


def _strangers(folder: Path) -> list[str]:
    """Files of a folder of tables that `evaluate` does not write; raises where it is none."""
    missing = {name for name in WRITTEN[1:] if not (folder / name).is_file()}  # earlier runs wrote no headline
    columns = set(pq.read_schema(folder / "scores.parquet").names)
    if missing or not set(summaries.NAMES) <= columns or "validation_auroc" not in read_json(folder / "choice.json"):
        raise ValueError("not the tables of a run")
    return others(folder, WRITTEN)


TABLES = Kind("folder of tables", is_folder=True, strangers=_strangers)


def models_of(folder: Path, recipes: list[str] | None) -> list[tuple[str, int, Path]]:
    """Every model's (recipe, seed, outputs) under a folder: RECIPE/s<seed>, or one model's outputs by themselves.

    Raises:
        UserError: there is none.
    """
    if (folder / "test.parquet").is_file():
        return [(folder.resolve().name, 0, folder)]
    found = [
        (path.parent.name, int(path.name[1:]), path)
        for path in folder.glob("*/s*")
        if path.name[1:].isdecimal() and (recipes is None or path.parent.name in recipes)
    ]
    if not found:
        raise UserError(f"{folder}: no outputs; run `dvc repro infer`, or `dvc pull`, or see artifacts/outputs.py")
    if recipes is None:
        known = {path for _, _, path in found}
        for path in sorted(folder.rglob("test.parquet")):
            if path.parent not in known:
                raise UserError(
                    f"{path.parent}: outputs that would not be scored, expected {folder}/RECIPE/s<seed>; rename it"
                )
    order = {name: i for i, name in enumerate(recipes or sorted({name for name, _, _ in found}))}
    return sorted(found, key=lambda model: (order[model[0]], model[1]))


def with_grids(detectors: Options, benchmark: str, files: Mapping[str, OutputFile]) -> Options:
    """Detectors without arguments of their own search OpenOOD's, where the benchmark is one of OpenOOD's."""
    if "train" not in files or not openood.is_openood(benchmark):
        return detectors
    some = next(files["train"].batches())
    width = some.logits.shape[1] if some.features is None else some.features.shape[1]
    return {
        name: openood.grid(name, len(files["train"]), width, some.logits.shape[1])
        if openood.uses_grid(benchmark, name, options)
        else options
        for name, options in detectors.items()
    }


def collect(
    models: list[tuple[str, int, Path]], detectors: Options, theirs: bool, benchmark: str
) -> tuple[Frames, dict[str, Any]]:
    """Scores of every image and ID accuracies of every model; and the arguments chosen, detector -> recipe -> seeds.

    Args:
        theirs: the outputs were made elsewhere, so that the columns that are taken for scores are named.
        benchmark: of `prepare`.
    """
    scores, accuracies = [], []
    chosen: dict[str, Any] = {}
    given: set[str] = set()
    for recipe, seed, folder in track(models, "score", len(models)):
        files = outputs.find(folder)
        given.update(files["test"].score_names)
        own_detectors, pooled = with_grids(detectors, benchmark, files), openood.is_openood(benchmark)
        scored = score_model(files, outputs.load_head(folder), own_detectors, pooled)
        own: dict[str, Any] = {"recipe": recipe, "seed": seed}
        scores.append(scored.scores.assign(**own)[[*summaries.NAMES, *summaries.detectors_of(scored.scores)]])
        accuracies += [own | {"split": split, "accuracy": value} for split, value in scored.accuracy.items()]
        for name, used in scored.chosen.items():
            chosen.setdefault(name, {}).setdefault(recipe, []).append(used)
    if theirs and given:
        log(f"score: columns of the outputs that are taken for scores: {', '.join(sorted(given))}")
    together = pd.concat(scores, ignore_index=True)
    categories = dict.fromkeys(("recipe", "set", "role"), "category")
    return {"scores": together.astype(categories), "accuracies": pd.DataFrame(accuracies)}, chosen


def compare(scores: pd.DataFrame, times: int) -> Frames:
    """Every recipe against every other, and by itself, with intervals, for every detector and test set."""
    pairs, own = [pd.DataFrame()], [pd.DataFrame()]
    if times:
        try:
            groups = summaries.groups(scores)
        except ValueError as error:
            raise UserError(
                f"{error}, so nothing can be paired; run `dvc repro infer`, or set score.resamples to 0"
            ) from None
        for group in track(groups, "compare", len(groups)):
            found = differences(groups[group], group, times)
            pairs.append(found[0])
            own.append(found[1])
    return {"differences": pd.concat(pairs, ignore_index=True), "intervals": pd.concat(own, ignore_index=True)}


def evaluate(
    folder: Path, recipes: Recipes | None, settings: ScoreSettings, target: Path, benchmark: str = "folder"
) -> dict[str, Any]:
    """Score the models of a folder of outputs and write every table to another; returns the JSON tables by name.

    Args:
        recipes: of params.yaml; None where the outputs were made elsewhere.
        benchmark: of `prepare`, whose grids detectors without arguments search.
    """
    models = models_of(folder, None if recipes is None else list(recipes))
    frames, chosen = collect(models, settings.detectors, recipes is None, benchmark)
    scores, accuracies, names = frames["scores"], frames["accuracies"], list(chosen)
    measured = summaries.measure(scores)
    validation = summaries.summarise(measured, accuracies, names, "val")
    bounds = [name for name, recipe in (recipes or {}).items() if "oracle" in bases(recipe.auxiliary)]
    published = [name for name, options in settings.detectors.items() if openood.uses_grid(benchmark, name, options)]
    choice = summaries.choose_detector(validation, names, bounds) | {"arguments": chosen, "openood_grids": published}
    summary, shortcuts = summaries.summarise(measured, accuracies, names, "test"), summaries.flagged_decoded(scores)
    tables = {
        "headline": summaries.headline(summary, shortcuts, choice["detector"]),
        "summary": summary,
        "validation": validation,
        "shortcuts": shortcuts,
        "choice": choice,
    }
    compared = compare(scores, settings.resamples)
    for name, content in tables.items():
        with atomic_write(target / f"{name}.json") as path:
            write_json(path, content)
    for name, frame in {"scores": scores, "seeds": measured, **compared}.items():
        with atomic_write(target / f"{name}.parquet") as path:
            frame.to_parquet(path, index=False)
    for name, points in curves(scores, choice["detector"]).items():
        with atomic_write(target / f"{name}.csv") as path:
            points.to_csv(path, index=False, float_format="%.5f")
    for alarm in of_results(tables["summary"], measured):
        log(f"warning: {alarm}")
    return tables


def log_results(summary: dict[str, Any], detectors: list[str]) -> None:
    """A line for each recipe and detector."""
    for recipe, entry in summary.items():
        for detector in detectors:
            best = entry[detector]
            log(f"score: {recipe}: {detector}: " + (", ".join(
                f"{group} AUROC {best[group]['auroc']['mean']:.1f} FPR95 {best[group]['fpr95']['mean']:.1f}"
                for group in ("near", "far") if group in best
            ) or "no OOD test set; name some under prepare.folder.near and prepare.folder.far"))  # fmt: skip


def outside() -> ScoreSettings:
    """The settings outside a project: those of the preset `digits`."""
    return ScoreSettings.model_validate(YAML(typ="safe").load(compose("digits"))["score"])


def score_external(folder: Path, target: Path, names: list[str] | None, force: bool) -> None:
    """Score somebody's outputs, see artifacts/outputs.py for their form.

    Args:
        folder: a model's outputs, or RECIPE/s<seed> folders of them.
        target: folder of the tables.
        names: of the detectors; those without an entry in params.yaml take pytorch-ood's arguments.
        force: replace the tables of an earlier run.

    Raises:
        UserError: `target` is not free, or the outputs cannot be scored.
    """
    place = destination(target, TABLES, [folder], force)
    settings = params.read("score", ScoreSettings) if params.PARAMS.is_file() else outside()
    if names is not None:
        settings = settings.model_copy(update={"detectors": {name: settings.detectors.get(name, {}) for name in names}})
    with place.writing() as tables:
        summary = evaluate(folder, None, settings, tables)["summary"]
    log_results(summary, list(next(iter(summary.values()))))


def main() -> None:
    benchmark = params.read("prepare.benchmark", str)
    tables = evaluate(
        OUTPUTS, params.read("recipes", Recipes), params.read("score", ScoreSettings), METRICS_DIR, benchmark
    )
    log_results(tables["summary"], [tables["choice"]["detector"]])
