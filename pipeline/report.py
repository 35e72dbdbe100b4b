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

import pandas as pd
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from pipeline.artifacts import dataset_json, images
from pipeline.artifacts.pictures import COLUMNS, contact_sheet
from pipeline.evaluation import alarms
from pipeline.reporting import figures, tables
from pipeline.reporting.headline import headline
from pipeline.reporting.results import REFERENCE, Results, compared, costs, held_out_tables, named_tables
from pipeline.reporting.tables import Found
from pipeline.runtime.console import log
from pipeline.runtime.files import atomic_write
from pipeline.runtime.layout import IMAGES, REPORT
from pipeline.settings import params
from pipeline.shortcuts.matching import AROUND

PACKAGES = (
    "torch", "torchvision", "timm", "diffusers", "accelerate", "webdataset", "pytorch-ood", "pytorch-metric-learning",
    "scikit-learn", "pyarrow", "dvc",
)  # fmt: skip

SUMMARIES = {"held-out-detectors": "By detector", "held-out-classes": "By class"}  # of tables that are folded up


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


def paste(results: Results, note: str) -> str:
    """The tables in Markdown and LaTeX."""
    frames = {f"{table.title} {note}".strip(): table.frame for table in named_tables(results)}
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
    rows = {name: tables.results(results.summary, name, results.differences, REFERENCE) for name in detectors}
    unseen = held_out_tables(results.held_out, results.recipe)
    ours = next(row for row in rows[results.detector] if row["recipe"] == results.recipe)
    return environment.get_template("page.html.j2").render(
        headline=headline(ours, results.detector, REFERENCE, results.held_out.get(results.recipe)),
        style=(files("pipeline") / "reporting/style.css").read_text(encoding="utf-8"),
        note=note, ours=results.recipe, reference=REFERENCE, choice=results.choice, recipes=list(results.summary),
        tables=rows, against={name: found for name in detectors if (found := compared(results, name))},
        held_out=results.held_out, unseen=[(SUMMARIES.get(one.name), one.title, one.frame) for one in unseen],
        matched=results.matched, around=AROUND, sets=results.sets(results.detector),
        told={name: alarms.strongest_statistic(found) for name, found in results.statistics.items()},
        warnings=results.warnings(),
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
