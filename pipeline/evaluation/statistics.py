"""Is a difference larger than what the seeds alone would make?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LOWER_IS_BETTER = ("fpr95", "fpr95_id_positive")


@dataclass(frozen=True)
class Difference:
    """A recipe's mean minus the reference's, in percentage points, and what to make of it."""

    delta: float
    spread: float
    verdict: str


def compare(recipe: dict[str, float], reference: dict[str, float], metric: str) -> Difference:
    """Compare two {mean, std} over seeds: `better` or `worse` where the means differ by more than either std.

    A rule of thumb for a few seeds, not a significance test.
    """
    delta = recipe["mean"] - reference["mean"]
    spread = max(recipe["std"], reference["std"])
    if abs(delta) <= spread:
        return Difference(delta, spread, "no difference")
    better = (delta < 0) == (metric in LOWER_IS_BETTER)
    return Difference(delta, spread, "better" if better else "worse")


def alarms(summary: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on every result that is worse than guessing: a mean AUROC under 50 %.

    Args:
        summary: recipe -> detector -> {sets: {name: {auroc: {mean}}}}, as in metrics/summary.json.
    """
    for recipe, detectors in summary.items():
        for detector, entry in detectors.items():
            for name, values in entry["sets"].items():
                if (mean := values["auroc"]["mean"]) < 50:
                    yield f"{recipe}: {detector} on {name}: AUROC {mean:.1f} %, worse than guessing"
