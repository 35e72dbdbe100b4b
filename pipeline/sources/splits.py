"""Where a source has no splits of its own: stratified, seeded ones, without an image on both sides."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from pipeline.runtime.errors import UserError
from pipeline.sources.collection import Item, Split

MINIMUM_PER_CLASS = 10  # fewer images than this cannot be split three ways and mean anything


def stratified(items: Sequence[Item], fractions: dict[Split, float], rest: Split, seed: int) -> dict[Split, list[Item]]:
    """Draw a fraction of each class for some splits; what is left is `rest`. Each part is in the order of its keys."""
    parts: dict[Split, list[Item]] = {name: [] for name in (*fractions, rest)}
    for label in sorted({item.label for item in items}):
        members = [item for item in items if item.label == label]
        order = np.random.default_rng([seed, label]).permutation(len(members))
        ends = np.cumsum([round(len(members) * share) for share in fractions.values()])
        for name, chosen in zip(parts, np.split(order, ends), strict=True):
            parts[name] += [members[i] for i in sorted(chosen)]
    return parts


def three_ways(
    classes: Sequence[str], items: Sequence[Item], val: float, test: float, seed: int
) -> dict[Split, list[Item]]:
    """Train, validation and test splits of images, none of which is a copy of another.

    Raises:
        UserError: a class has too few images.
    """
    counts = Counter(item.label for item in items)
    for label, name in enumerate(classes):
        if counts[label] < MINIMUM_PER_CLASS:
            raise UserError(
                f"class {name!r}: {counts[label]} different images, expected at least {MINIMUM_PER_CLASS}; "
                "add images or remove the class's folder"
            )
    return stratified(items, {"val": val, "test": test}, "train", seed)


def halves(items: Sequence[Item], seed: int) -> tuple[list[Item], list[Item]]:
    """Two disjoint halves, drawn at random, each in the items' order."""
    order = np.random.default_rng([seed, len(items)]).permutation(len(items))
    first, second = np.sort(order[: len(items) // 2]), np.sort(order[len(items) // 2 :])
    return [items[i] for i in first], [items[i] for i in second]
