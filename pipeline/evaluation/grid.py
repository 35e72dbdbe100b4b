"""Detectors by name: every combination of lists of arguments, and sums of several detectors."""

from collections.abc import Collection, Iterator
from itertools import product
from typing import Any

from pipeline.runtime.errors import UserError

NO_CHOICE = (  # what is said of several combinations, where nothing decides between them
    "several values and no OOD validation set to choose by; name one value, or give sets under "
    "prepare.folder.val_near or prepare.folder.val_far"
)


def combinations(options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of arguments; one that is a list is a choice of values.

    Raises:
        UserError: a list is empty.
    """
    choices = {key: value if isinstance(value, list) else [value] for key, value in sorted(options.items())}
    if empty := [key for key, values in choices.items() if not values]:
        raise UserError(f"params.yaml: detectors: {empty[0]} is an empty list; give it a value, or leave it out")
    for values in product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


def label(name: str, options: dict[str, Any]) -> str:
    """A detector with its arguments in one word: `knn(k=10)`, `msp()`."""
    return f"{name}({','.join(f'{key}={options[key]}' for key in sorted(options))})"


def detector_of(label: str) -> str:
    """The detector's name in such a word."""
    return label.partition("(")[0]


def parts_of(name: str, known: Collection[str]) -> list[str]:
    """The detectors whose z-scores a sum adds up: `msp` and `rmd++` of `msp+rmd++`; empty where it is no sum.

    Args:
        known: detectors, some of whose names end in `+` themselves.
    """
    for first in known:
        rest = name.removeprefix(f"{first}+")
        if rest != name and rest in known:
            return [first, rest]
        if rest != name and (others := parts_of(rest, known)):
            return [first, *others]
    return []
