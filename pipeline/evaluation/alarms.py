"""Sentences on results that are not to be believed as they stand: each says what was found, and where."""

from collections.abc import Iterator, Mapping
from math import sqrt
from typing import Any

import pandas as pd

WIDE = 2.0  # percentage points: half an interval that says little
SEPARATED = 90.0  # % AUROC at which a single statistic tells a set from ID
FEW = 3  # seeds, below which nothing is known of how training varies
FLAGGED = 10.0  # % of decoded ID images, where 5 % of the originals are
GREY = 50.0  # percentage points between the shares of grey images


def of_results(summary: Mapping[str, Any], measured: pd.DataFrame) -> Iterator[str]:
    """A mean AUROC under 50 %, or one score for a whole set; a sentence for each recipe and detector.

    Args:
        summary: recipe -> detector -> {sets: {name: {auroc: {mean}}}}, as in metrics/summary.json.
        measured: of `summaries.measure`.
    """
    for recipe, detectors in summary.items():
        for detector, entry in detectors.items():
            means = {name: values["auroc"]["mean"] for name, values in entry["sets"].items()}
            if low := [f"{name} {mean:.1f} %" for name, mean in means.items() if mean < 50]:
                yield f"{recipe}: {detector} is worse than guessing, by AUROC, on {', '.join(low)}"
    constant = measured[measured["constant"].astype(bool)]
    for (name, scorer), rows in constant.groupby(["recipe", "detector"], observed=True):
        yield f"{name}: {scorer} gives every image the same score on {', '.join(sorted(set(rows['set'])))}"


def of_accuracy(summary: Mapping[str, Any], classes: int, images: int) -> Iterator[str]:
    """ID accuracy within three standard errors of guessing.

    Args:
        classes: of the ID set.
        images: of the ID test set.
    """
    chance = 1 / classes
    bound = 100 * (chance + 3 * sqrt(chance * (1 - chance) / images))
    for recipe, detectors in summary.items():
        if (mean := next(iter(detectors.values()))["id_accuracy"]["mean"]) <= bound:
            yield f"{recipe}: ID accuracy {mean:.1f} %, no better than guessing among {classes} classes"


def of_seeds(count: int) -> Iterator[str]:
    """Too few seeds for intervals to know how training varies."""
    if count < FEW:
        yield f"seeds: {count}, too few to tell how training varies; take {FEW} or more, better five"


def of_shortcuts(shortcuts: Mapping[str, Any], detector: str) -> Iterator[str]:
    """Decoded ID images flagged: the classifier learned the decoder.

    Args:
        shortcuts: of `summaries.flagged_decoded`.
    """
    for recipe, entry in shortcuts.items():
        if (mean := entry[detector]["mean"]) > FLAGGED:
            yield f"{recipe}: {detector} flags {mean:.1f} % of merely decoded ID images, and 5 % of the originals"


def of_intervals(intervals: pd.DataFrame, detector: str, recipe: str) -> Iterator[str]:
    """Sets too small to tell recipes apart: the AUROC of one recipe is known too roughly.

    Args:
        intervals: of `statistics.differences`, with a column `detector`.
    """
    if intervals.empty:
        return
    own = intervals[(intervals["detector"] == detector) & (intervals["recipe"] == recipe)]
    own = own[(own["metric"] == "auroc") & ~own["set"].isin(["near", "far"])]
    half = (own["high"] - own["low"]) / 2
    if wide := [f"{name} ±{value:.1f}" for name, value in zip(own["set"], half, strict=True) if value > WIDE]:
        yield (
            f"small sets: {recipe}'s AUROC is known to no better than {WIDE:g} points (95 % interval, {detector}) on "
            f"{', '.join(wide)}; differences of that size between recipes cannot be told there"
        )


def of_sets(manifest: Mapping[str, Any]) -> Iterator[str]:
    """What tells an OOD set from ID before any model looks: copies of training images, colour, codec, size, statistics.

    Args:
        manifest: of data/images.
    """
    yield from (f"partial benchmark: {difference}" for difference in manifest["partial"])
    for name, about in manifest["sets"].items():
        if copies := about.get("in_training"):
            yield f"{name}: {copies} of {about['count']} images have the pixels of an ID training image"
    sets = {name.removeprefix("ood/"): about for name, about in manifest["sets"].items() if "audit" in about}
    if single := [name for name, about in sets.items() if about.get("one_photograph")]:
        yield f"tiles of one photograph each, so one observation whatever an interval says: {', '.join(single)}"
    for name, about in sets.items():
        audit = about["audit"]
        if copies := audit["in_training"]:
            yield f"{name}: {copies} of {about['count']} images are ID training images too"
        grey, known = audit["grey"]
        if abs(grey - known) > GREY:
            yield f"{name}: {grey:.0f} % of the images are grey, {known:.0f} % of the ID images: colour gives it away"
    other = [name for name, about in sets.items() if about["audit"]["files"][0] != about["audit"]["files"][1]]
    if other:
        first = sets[other[0]]["audit"]["files"]
        yield f"other files than ID's (codec or size; {first[0]} against {first[1]}): {', '.join(other)}"
    sizes = {name: about["audit"]["statistics"]["file size"] for name, about in sets.items()}
    if plain := [f"{name} {size:.0f} %" for name, size in sizes.items() if size >= SEPARATED]:
        yield f"the size of the files tells the set from ID, by AUROC: {', '.join(plain)}"
    told = {name: strongest_statistic(pixel_statistics(about["audit"])) for name, about in sets.items()}
    if plain := [f"{name} ({found[0]} {found[1]:.0f} %)" for name, found in told.items() if found[1] >= SEPARATED]:
        yield f"one number of the pixels tells the set from ID, by AUROC: {', '.join(plain)}"


def pixel_statistics(audit: Mapping[str, Any]) -> dict[str, float]:
    """The AUROC in percent at which each statistic of the pixels tells a set from ID."""
    return {name: value for name, value in audit["statistics"].items() if name != "file size"}


def strongest_statistic(statistics: Mapping[str, float]) -> tuple[str, float]:
    """The single statistic that tells a set from ID best, and its AUROC in percent."""
    best = max(statistics, key=lambda name: statistics[name])
    return best, statistics[best]
