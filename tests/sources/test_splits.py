"""Splits: stratified, disjoint, complete, without an image on both sides."""

import pytest

from pipeline.runtime.errors import UserError
from pipeline.sources.collection import Item
from pipeline.sources.copies import different
from pipeline.sources.splits import halves, three_ways


def items(count: int, labels: tuple[int, ...] = (0, 1)) -> list[Item]:
    return [
        Item(f"{label}-{i}", label, lambda name=f"{label}-{i}": name.encode()) for label in labels for i in range(count)
    ]


def test_splits_are_stratified_disjoint_and_follow_the_seed() -> None:
    own = items(50)
    parts = three_ways(["a", "b"], own, 0.2, 0.3, seed=3)
    assert {name: len(part) for name, part in parts.items()} == {"train": 50, "val": 20, "test": 30}
    assert all(sum(item.label for item in part) == len(part) // 2 for part in parts.values())
    keys = [item.key for part in parts.values() for item in part]
    assert sorted(keys) == sorted(item.key for item in own)
    assert three_ways(["a", "b"], own, 0.2, 0.3, seed=3) == parts != three_ways(["a", "b"], own, 0.2, 0.3, seed=4)


def test_copies_of_the_same_bytes_are_dropped_before_splitting() -> None:
    contents = {"a": (b"1", 0), "b": (b"2", 0), "c": (b"1", 0), "d": (b"1", 1)}
    own = [Item(key, label, lambda data=data: data) for key, (data, label) in contents.items()]
    assert [item.key for item in different(own)] == ["a", "b"]


def test_a_class_with_too_few_different_images() -> None:
    own = [*items(20, (0,)), *(Item(str(i), 1, lambda: b"the same") for i in range(20))]
    with pytest.raises(UserError, match="class 'b': 1 different images, expected at least 10"):
        three_ways(["a", "b"], different(own), 0.2, 0.3, seed=0)


def test_halves_are_disjoint_and_complete() -> None:
    own = items(25, (0,))
    first, second = halves(own, seed=0)
    assert (len(first), len(second)) == (12, 13)
    assert sorted([*first, *second], key=own.index) == own
    assert halves(own, seed=0) == (first, second) != halves(own, seed=1)
