"""The arguments that OpenOOD v1.5 searches (configs/postprocessors/*.yml, `postprocessor_sweep`), by our names.

A detector whose value OpenOOD fixes has that one. Percentages there are shares here.
"""

from functools import cache
from typing import Any

from pipeline.settings.benchmarks import names, record

PERCENTILES = [0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
GRIDS: dict[str, dict[str, list[Any]]] = {
    "knn": {"k": [50, 100, 200, 500, 1000]},
    "vim": {"d": [256, 1000]},
    "gen": {"gamma": [0.01, 0.1, 0.5, 1, 2, 5, 10], "M": [10, 50, 100, 200, 500, 1000]},
    "react": {"percentile": [0.85, 0.9, 0.95, 0.99]},
    "ash-b": {"percentile": PERCENTILES},
    "scale": {"percentile": PERCENTILES},
    "dice": {"p": [0.9]},
    "nci": {"alpha": [0.0001, 0.001, 0.01, 0.1]},
    "nnguide": {"k": [100]},
    "relation": {"pow": [1, 2, 4, 6, 8]},
}


@cache
def is_openood(benchmark: str) -> bool:
    """The benchmark is one of OpenOOD's, by its record."""
    return benchmark in names() and record(benchmark).source == "openood"


def uses_grid(benchmark: str, name: str, options: dict[str, Any]) -> bool:
    """The detector has no arguments of its own, and the benchmark is one of OpenOOD's."""
    return is_openood(benchmark) and not options and name in GRIDS


def grid(name: str, images: int, width: int, classes: int) -> dict[str, list[Any]]:
    """A detector's values that a model allows; the largest possible where all published ones are too large.

    Args:
        images: that detectors are fitted on.
        width: of the features.
        classes: of the logits.
    """
    most = {"k": images, "d": width - 1, "M": classes}
    found = {}
    for key, values in GRIDS[name].items():
        fitting = [value for value in values if key not in most or value <= most[key]]
        found[key] = fitting or [most[key]]
    return found
