"""ID classes that are kept aside, to see whether a classifier notices what it was never shown."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from pipeline.runtime.errors import UserError, like
from pipeline.settings.prepare import HoldOut, NamedSplit

FEWEST = 2  # classes that are left to train on


class Split(TypedDict):
    """Names of the classes that are kept aside for testing, and for choices."""

    near: list[str]
    val_near: list[str]


def splits(classes: Sequence[str], settings: HoldOut | list[NamedSplit], seed: int) -> list[Split]:
    """The classes that each split keeps aside: named, or drawn at random; then each is tested before one is twice.

    Of so few classes that less than two would be left to train on none is kept aside: there is no split.

    Raises:
        UserError: a named class does not exist, or fewer than two are left.
    """
    if isinstance(settings, list):
        return [_named(classes, own, number) for number, own in enumerate(settings)]
    near, val_near = (max(1, int(share * len(classes))) if share else 0 for share in (settings.near, settings.val_near))
    if len(classes) - near - val_near < FEWEST:
        return []
    order = np.random.default_rng(seed).permutation(len(classes))
    found: list[Split] = []
    for split in range(settings.splits):
        places = [order[(split * near + i) % len(classes)] for i in range(near + val_near)]
        names = [classes[place] for place in places]
        found.append({"near": sorted(names[:near]), "val_near": sorted(names[near:])})
    return found


def _named(classes: Sequence[str], own: NamedSplit, number: int) -> Split:
    where, names = f"params.yaml: prepare.folder.hold_out: split {number}", {*own.near, *own.val_near}
    for name in sorted(names - {*classes}):
        raise UserError(f"{where}: no class {name!r}{like(name, list(classes))}; expected some of {', '.join(classes)}")
    if len(classes) - len(names) < FEWEST:
        raise UserError(f"{where}: keeps {len(names)} of {len(classes)} classes aside; leave at least {FEWEST}")
    return {"near": sorted(own.near), "val_near": sorted(own.val_near)}
