"""Write the report: one self-contained page, its figures, and its tables to paste elsewhere.

Reads: metrics, data/images, data/outliers, data/controls.
Writes: report/index.html, a page without anything from elsewhere; report/results.md, its tables in Markdown and LaTeX;
report/figures/*.svg.
Why: a table of means hides what the outliers look like, where a detector fails, and whether to believe it.
"""

import base64
import io
import platform
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from pipeline import STAGES
from pipeline.artifacts import dataset_json, images
from pipeline.artifacts.images import ImageFile
from pipeline.artifacts.pictures import COLUMNS, contact_sheet
from pipeline.evaluation import alarms
from pipeline.reporting import figures, tables
from pipeline.reporting.tables import Differences, Found
from pipeline.runtime import timings
from pipeline.runtime.console import log
from pipeline.runtime.files import atomic_write, read_json
from pipeline.runtime.layout import IMAGES, METRICS, REPORT
from pipeline.settings import params
from pipeline.shortcuts.matching import AROUND, at_equal_sharpness, sharpness_of

REFERENCE = "baseline"
PACKAGES = (
    "torch", "torchvision", "timm", "diffusers", "accelerate", "webdataset", "pytorch-ood", "pytorch-metric-learning",
    "scikit-learn", "pyarrow", "dvc",
)  # fmt: skip


class Results:
    """Everything that `score` and the earlier stages left, read once."""

    def __init__(self) -> None:
        self.summary, self.choice = read_json(METRICS / "summary.json"), read_json(METRICS / "choice.json")
        self.validation = read_json(METRICS / "validation.json")
        self.shortcuts, self.manifest = read_json(METRICS / "shortcuts.json"), read_json(IMAGES / "manifest.json")
        self.detector: str = self.choice["detector"]
        frames = {name: pd.read_parquet(METRICS / f"{name}.parquet") for name in ("scores", "seeds", "intervals")}
        self.scores, self.measured, self.intervals = frames["scores"], frames["seeds"], frames["intervals"]
        self.differences = Differences(pd.read_parquet(METRICS / "differences.parquet"))
        self.curves = {name: pd.read_csv(METRICS / f"{name}.csv") for name in ("roc", "pr")}
        # a set that was given to us may hold the controls too
        names = dict.fromkeys(params.read(f"train.{name}", str) for name in ("outliers", "controls"))
        self.folders = [Path(name) for name in names]
        paths = [IMAGES / "test.parquet", *images.ood_sets(IMAGES)]
        sharp = {path.stem: sharpness_of(ImageFile(path)) for path in paths if path.stem in set(self.scores["set"])}
        shown = dict.fromkeys((self.detector, "own"))
        self.matched = {name: at_equal_sharpness(self.scores, name, sharp) for name in shown if name in self.scores}
        self.datasets = [dataset_json.read(folder) for folder in self.folders]

    @property
    def recipe(self) -> str:
        """The recipe to look at: the shipped one, or else the last."""
        shipped = params.read("shipped", str)
        return shipped if shipped in self.summary else list(self.summary)[-1]

    @property
    def statistics(self) -> dict[str, dict[str, float]]:
        """Set -> statistic of the pixels -> AUROC in percent at which it alone tells the set from ID."""
        sets = {name.removeprefix("ood/"): about for name, about in self.manifest["sets"].items()}
        return {name: alarms.pixel_statistics(about["audit"]) for name, about in sets.items() if "audit" in about}

    def sets(self, detector: str) -> dict[str, dict[str, Any]]:
        """Test set -> recipe -> AUROC {mean, std} by a detector, in the manifest's order: near, then far."""
        return tables.per_set(self.summary, detector, [name.removeprefix("ood/") for name in self.manifest["sets"]])

    def flagged(self, detector: str) -> dict[str, dict[str, float]]:
        """Recipe -> share of decoded ID test images that it flags by a detector, {mean, std} in %."""
        return {recipe: entry[detector] for recipe, entry in self.shortcuts.items() if detector in entry}

    def warnings(self) -> list[str]:
        """Every alarm, the gravest first."""
        images_tested = self.manifest["sets"]["test"]["count"]
        reference = REFERENCE if REFERENCE in self.summary else self.recipe
        return [
            *alarms.of_seeds(self.measured["seed"].nunique()),
            *alarms.of_accuracy(self.summary, len(self.manifest["classes"]), images_tested),
            *alarms.of_sets(self.manifest),
            *alarms.of_intervals(self.intervals, self.detector, reference),
            *alarms.of_shortcuts(self.shortcuts, self.detector),
            *alarms.of_results(self.summary, self.measured),
        ]


def hardest(scores: pd.DataFrame, recipe: str, detector: str, count: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """The test images a recipe is most mistaken on, over its seeds: title, and rows of set and key.

    An image's place is the share of ID test images with a lower score, averaged over seeds.
    """
    own = scores[scores["recipe"] == recipe]
    parts = []
    for _, model in own.groupby("seed"):
        known = model.loc[model["set"] == "test", detector].sort_values().to_numpy()
        parts.append(model.assign(place=known.searchsorted(model[detector].to_numpy()) / len(known)))
    names = ["set", "role", "key"]
    places = pd.concat(parts).groupby(names, observed=True, sort=False)["place"].mean().reset_index()
    for role in ("near", "far"):
        if len(rows := places[places["role"] == role].nsmallest(count, "place")):
            yield f"{role}-OOD images most like ID", rows
    yield "ID images most like OOD", places[places["set"] == "test"].nlargest(count, "place")


def look_up(rows: pd.DataFrame) -> torch.Tensor:
    """The pixels of test images, in the rows' order."""
    paths = {
        name: IMAGES / (f"{name}.parquet" if name == "test" else f"ood/{name}.parquet") for name in set(rows["set"])
    }
    found = {
        (name, key): pixels
        for name, members in rows.groupby("set", observed=True)
        for key, pixels in zip(members["key"], images.pick(paths[name], list(members["key"])), strict=True)
    }
    return torch.stack([found[place] for place in zip(rows["set"], rows["key"], strict=True)])


def mistakes(results: Results) -> list[Found]:
    """Contact sheets of the images that `hardest` finds, and the sets they are of."""
    found = []
    for title, rows in hardest(results.scores, results.recipe, results.detector, 2 * COLUMNS):
        buffer = io.BytesIO()
        contact_sheet(buffer, [{title: look_up(rows)}], rows=2)
        counts = rows["set"].value_counts()
        sets = ", ".join(f"{name} {count}" for name, count in counts[counts > 0].items())
        found.append({"title": title, "picture": inline(buffer.getvalue()), "sets": sets})
    return found


def costs() -> list[dict[str, Any]]:
    """Seconds and peak memory of each stage that ran in this checkout, in the pipeline's order."""
    found = timings.load()
    place = {name: STAGES[:-1].index(stage) for name in found if (stage := name.split("@")[0]) in STAGES[:-1]}
    return [{"stage": name} | found[name] for name in sorted(place, key=place.__getitem__)]


def inline(png: bytes) -> str:
    """A PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def draw(results: Results) -> dict[str, str]:
    """The figures by name, as SVG."""
    contrasted = [name for name in dict.fromkeys((REFERENCE, results.recipe)) if name in results.summary]
    methods = {name: counts for about in results.datasets for name, counts in about["methods"].items()}
    return {
        "overview": figures.overview(results.summary, results.detector, "auroc", f"AUROC, {results.detector}, %"),
        "histograms": figures.histograms(results.scores, contrasted, results.detector),
        "roc": figures.roc_curves(results.curves["roc"]),
        "pr": figures.pr_curves(results.curves["pr"]),
        "funnel": figures.funnel({name: own for name, own in methods.items() if own["rejected"]} or methods),
    }


def provenance() -> dict[str, str]:
    """Versions that decide the numbers. No host, path or time."""
    versions = {package: version(package) for package in PACKAGES}
    return {"python": platform.python_version(), "penumbra": version("penumbra")} | versions


def compared(results: Results, detector: str) -> list[Found]:
    """The recipe to look at against every other, where they were compared."""
    if not results.differences.rows:
        return []
    return tables.against(results.summary, detector, results.differences, results.recipe)


def titled(results: Results) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every table with its title: of the chosen detector, of the models' own score, and of all detectors."""
    detectors = list(results.choice["validation_auroc"])
    shown = [name for name in dict.fromkeys((results.detector, "own")) if name in detectors]
    for name in shown:
        yield (
            f"Results, {name}, mean and standard deviation over seeds in %. (+) and (-): better and worse than "
            f"{REFERENCE}, by a 95 % interval of the paired bootstrap over images and seeds.",
            tables.results_frame(
                tables.results(results.summary, name, results.differences, REFERENCE), results.flagged(name)
            ),
        )
        rows = tables.results(results.validation, name, Differences(pd.DataFrame()), REFERENCE)
        title = f"The same on the validation sets, {name}: what choices are made on."
        yield title, tables.results_frame(rows, {})
        if others := compared(results, name):
            title = f"{results.recipe} minus each other recipe, {name}, in points, with 95 % intervals."
            yield title, tables.differences_frame(others)
    for name, found in results.matched.items():
        title = f"{name}: AUROC in % at equal sharpness, each OOD image against the {AROUND} ID images around it."
        yield title, tables.groups_frame(found)
    for where, summary in (("test", results.summary), ("validation", results.validation)):
        yield f"AUROC by detector, near / far, {where} sets, in %.", tables.detectors_frame(summary, detectors)
    for name in shown:
        if sets := results.sets(name):
            yield f"AUROC by test set, {name}, in %.", tables.sets_frame(sets, results.statistics)
    if len(audit := tables.audit_frame(results.datasets)):
        yield "AUROC in % of one statistic, and of a probe of the spectrum, that look at no content.", audit
    if spent := costs():
        yield "Cost of each stage, as last run in this checkout.", tables.costs_frame(spent)


def paste(results: Results, note: str) -> str:
    """The tables in Markdown and LaTeX."""
    frames = {f"{title} {note}".strip(): frame for title, frame in titled(results)}
    parts = [f"# Results: {results.manifest['title']}\n"]
    parts += [f"{title}\n\n{tables.markdown(frame)}\n" for title, frame in frames.items()]
    parts += [f"```latex\n{tables.latex(frame, title)}```\n" for title, frame in frames.items()]
    return "\n".join(parts)


def page(results: Results, note: str, drawn: dict[str, str]) -> str:
    """The page."""
    loader, escape = PackageLoader("pipeline", "reporting"), select_autoescape(default=True)
    environment = Environment(loader=loader, autoescape=escape, undefined=StrictUndefined)
    detectors = list(results.choice["validation_auroc"])
    pictures = {
        name: [inline(path.read_bytes()) for folder in results.folders if (path := folder / f"{name}.png").is_file()]
        for name in ("contact-sheet", "latent-map", "class-grid")
    }
    return environment.get_template("page.html.j2").render(
        style=(files("pipeline") / "reporting/style.css").read_text(encoding="utf-8"),
        note=note, ours=results.recipe, reference=REFERENCE, choice=results.choice, recipes=list(results.summary),
        tables={name: tables.results(results.summary, name, results.differences, REFERENCE) for name in detectors},
        against={name: rows for name in detectors if (rows := compared(results, name))},
        matched=results.matched, around=AROUND, sets=results.sets(results.detector),
        told={name: alarms.telltale(found) for name, found in results.statistics.items()}, warnings=results.warnings(),
        audit=dataset_json.separations(dataset_json.audit_rows(results.datasets)),
        shortcuts=results.shortcuts, figures=drawn, pictures=pictures, mistakes=mistakes(results),
        datasets=results.datasets, manifest=results.manifest, costs=costs(),
        seeds=params.read("train.seeds", list), versions=provenance(), resamples=params.read("score.resamples", int),
        settings=params.as_text(),
    )  # fmt: skip


def main() -> None:
    results = Results()
    note = "PARTIAL benchmark: not comparable with others' numbers." if results.manifest["partial"] else ""
    drawn = draw(results)
    with atomic_write(REPORT) as folder:
        (folder / "figures").mkdir(parents=True)
        for name, figure in drawn.items():
            (folder / "figures" / f"{name}.svg").write_text(figure, encoding="utf-8")
        (folder / "results.md").write_text(paste(results, note), encoding="utf-8")
        (folder / "index.html").write_text(page(results, note, drawn), encoding="utf-8")
    log(f"report: {REPORT / 'index.html'}")
