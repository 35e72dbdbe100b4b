"""What a run found: everything that `score` and the earlier stages left, and its tables by name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from pipeline import STAGES
from pipeline.artifacts import dataset_json, images
from pipeline.artifacts.images import ImageFile
from pipeline.evaluation import alarms
from pipeline.reporting import tables
from pipeline.reporting.tables import Differences, Found
from pipeline.runtime import timings
from pipeline.runtime.files import read_json
from pipeline.runtime.layout import IMAGES, METRICS_DIR
from pipeline.settings import params
from pipeline.shortcuts.matching import AROUND, CALIPER, at_equal_sharpness, matches, sharpness_of

REFERENCE = "baseline"
MARKS = "(+) and (-): better and worse than {} at 5 %, of all comparisons in this table (Holm)."
TABLES = ("summary", "validation", "shortcuts", "choice")


class Results:
    """Everything that `score` and the earlier stages left, read once."""

    def __init__(self) -> None:
        read = {name: read_json(METRICS_DIR / f"{name}.json") for name in TABLES}
        self.summary, self.validation, self.shortcuts, self.choice = read.values()
        self.held_out = read_json(METRICS_DIR / "hold_out.json")
        self.manifest = read_json(IMAGES / "manifest.json")
        self.detector: str = self.choice["detector"]
        frames = {name: pd.read_parquet(METRICS_DIR / f"{name}.parquet") for name in ("scores", "seeds", "intervals")}
        self.scores, self.measured, self.intervals = frames["scores"], frames["seeds"], frames["intervals"]
        self.differences = Differences(pd.read_parquet(METRICS_DIR / "differences.parquet"))
        self.curves = {name: pd.read_csv(METRICS_DIR / f"{name}.csv") for name in ("roc", "pr")}
        # a set that was given to us may hold the controls too
        names = dict.fromkeys(params.read(f"train.{name}", str) for name in ("outliers", "controls"))
        self.folders = [Path(name) for name in names]
        self.matched = self._at_equal_sharpness()
        self.datasets = [dataset_json.read(folder) for folder in self.folders]

    def _at_equal_sharpness(self) -> dict[str, pd.DataFrame]:
        """Detector -> its table, of the test sets whose images are at hand."""
        paths = {path.stem: path for path in images.ood_sets(IMAGES)}
        names = [name for name in self.sets(self.detector) if name in paths]
        tested = {"test": IMAGES / "test.parquet"} | {name: paths[name] for name in names}
        matched = matches({name: sharpness_of(ImageFile(path)) for name, path in tested.items()})
        return {
            name: tables.matched_frame(at_equal_sharpness(self.scores, name, matched), matched)
            for name in dict.fromkeys((self.detector, "own"))
            if name in self.scores and matched
        }

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
            *alarms.of_seeds(self.scores["seed"].nunique()),
            *alarms.of_accuracy(self.summary, len(self.manifest["classes"]), images_tested),
            *alarms.of_sets(self.manifest),
            *alarms.of_intervals(self.intervals, self.detector, reference),
            *alarms.of_shortcuts(self.shortcuts, self.detector),
            *alarms.of_results(self.summary, self.measured),
        ]


def costs() -> list[dict[str, Any]]:
    """Seconds and peak memory of each stage that ran in this checkout, in the pipeline's order."""
    found = timings.load()
    place = {name: STAGES[:-1].index(stage) for name in found if (stage := name.split("@")[0]) in STAGES[:-1]}
    return [{"stage": name} | found[name] for name in sorted(place, key=place.__getitem__)]


def compared(results: Results, detector: str) -> list[Found]:
    """The recipe to look at against every other, where they were compared."""
    if not results.differences.rows:
        return []
    return tables.against(results.summary, detector, results.differences, results.recipe)


class Table(NamedTuple):
    """A table of the report: its name, its title and its rows, as texts."""

    name: str
    title: str
    frame: pd.DataFrame


def at_hand() -> Iterator[Table]:
    """Every table of the run in this checkout; of one that ran no further than `hold_out`, those of its classes."""
    if (METRICS_DIR / "summary.json").is_file():
        return named_tables(Results())
    return held_out_tables(read_json(METRICS_DIR / "hold_out.json"), params.read("shipped", str))


def named_tables(results: Results) -> Iterator[Table]:
    """Every table: of the chosen detector, of the models' own score, and of all detectors."""
    detectors = list(results.choice["validation_auroc"])
    shown = [name for name in dict.fromkeys((results.detector, "own")) if name in detectors]
    for name in shown:
        yield from _of_detector(results, name)
    yield from held_out_tables(results.held_out, results.recipe)
    for name, frame in results.matched.items():
        title = (
            f"{name}: AUROC in % at equal sharpness, each OOD image against the {AROUND} ID test images nearest to it "
            f"in sharpness, all within {CALIPER:g} standard deviations; 95 % intervals over seeds and images."
        )
        yield Table(f"equal-sharpness-{name}", title, frame)
    for where, summary in (("test", results.summary), ("validation", results.validation)):
        title = f"AUROC by detector, near / far, {where} sets, in %."
        yield Table(f"detectors-{where}", title, tables.detectors_frame(summary, detectors))
    for name in shown:
        if sets := results.sets(name):
            title = f"AUROC by test set, {name}, in %."
            yield Table(f"sets-{name}", title, tables.sets_frame(sets, results.statistics))
    if len(audit := tables.audit_frame(results.datasets)):
        title = "AUROC in % of one statistic, and of a probe of the spectrum, that look at no content."
        yield Table("shortcuts", title, audit)
    if spent := costs():
        yield Table("costs", "Cost of each stage, as last run in this checkout.", tables.costs_frame(spent))


def held_out_tables(held_out: dict[str, Any], recipe: str) -> Iterator[Table]:
    """What the classes say that were kept aside: of every recipe, and by class of the recipe to look at."""
    if held_out:
        yield Table("held-out", tables.HELD_OUT, tables.held_out_frame(held_out))
        title = tables.HELD_OUT_DETECTORS.format(REFERENCE)
        yield Table("held-out-detectors", title, tables.held_out_detectors(held_out))
        if (own := held_out.get(recipe)) is not None:
            title = tables.HELD_OUT_CLASSES.format(recipe)
            yield Table("held-out-classes", title, tables.held_out_classes(own))


def _of_detector(results: Results, name: str) -> Iterator[Table]:
    """Results by one detector: on the test sets, on the validation sets, and against every other recipe."""
    title = f"Results, {name}, mean and standard deviation over seeds in %. {MARKS.format(REFERENCE)}"
    rows = tables.results(results.summary, name, results.differences, REFERENCE)
    yield Table(f"results-{name}", title, tables.results_frame(rows, results.flagged(name)))
    rows = tables.results(results.validation, name, Differences(pd.DataFrame()), REFERENCE)
    title = f"The same on the validation sets, {name}: what choices are made on."
    yield Table(f"validation-{name}", title, tables.results_frame(rows, {}))
    if others := compared(results, name):
        title = f"{results.recipe} minus each other recipe, {name}, in points, with 95 % intervals."
        yield Table(f"differences-{name}", title, tables.differences_frame(others))
