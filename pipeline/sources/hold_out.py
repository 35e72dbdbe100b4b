"""ID classes that are kept aside, to see whether a classifier notices what it was never shown."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from pipeline.settings.prepare import HoldOut

FEWEST = 2  # classes that are left to train on


class Split(TypedDict):
    """Names of the classes that are kept aside for testing, and for choices."""

    near: list[str]
    val_near: list[str]


def splits(classes: Sequence[str], settings: HoldOut, seed: int) -> list[Split]:
    """The classes that each split keeps aside, drawn at random; none is tested twice before each was tested once.

    Of so few classes that less than two would be left to train on none is kept aside: there is no split.
    """
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
