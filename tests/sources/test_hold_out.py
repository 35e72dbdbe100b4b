import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.runtime.errors import UserError
from pipeline.settings.prepare import HoldOut, NamedSplit
from pipeline.sources.hold_out import FEWEST, splits


@given(st.integers(5, 40), st.floats(0.01, 0.4), st.floats(0, 0.4), st.integers(1, 6), st.integers(0, 99))
def test_splits_keep_other_classes_aside_in_turn(
    count: int, near: float, val_near: float, number: int, seed: int
) -> None:
    assume(count - max(1, int(near * count)) - (max(1, int(val_near * count)) if val_near else 0) >= FEWEST)
    classes, asked = [f"c{i}" for i in range(count)], HoldOut(near=near, val_near=val_near, splits=number)
    found = splits(classes, asked, seed)
    assert found == splits(classes, asked, seed) and len(found) == number
    for own in found:
        assert len(own["near"]) == max(1, int(near * count)) == len(set(own["near"]))
        assert len(own["val_near"]) == (max(1, int(val_near * count)) if val_near else 0)
        assert set(own["near"]).isdisjoint(own["val_near"]) and {*own["near"], *own["val_near"]} < set(classes)
    tested = [name for own in found for name in own["near"]]
    times = [tested.count(name) for name in classes]
    assert max(times) - min(times) <= 1


def test_of_too_few_classes_none_is_kept_aside() -> None:
    assert splits(["a", "b", "c"], HoldOut(near=0.3, val_near=0.3, splits=1), 0) == []
    assert len(splits(["a", "b", "c"], HoldOut(near=0.3, val_near=0.0, splits=1), 0)) == 1


def test_classes_can_be_named() -> None:
    asked = [NamedSplit(near=["d", "b"], val_near=["a"]), NamedSplit(near=["c"])]
    expected = [{"near": ["b", "d"], "val_near": ["a"]}, {"near": ["c"], "val_near": []}]
    assert splits(["a", "b", "c", "d", "e"], asked, 0) == expected


@pytest.mark.parametrize(
    ("near", "message"),
    [
        (["birds"], "split 0: no class 'birds'.*bird.*; expected some of bird, cat, dog"),
        (["bird", "cat"], "keeps 2 of 3 classes aside"),
    ],
)
def test_a_split_that_cannot_be_is_refused(near: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        splits(["bird", "cat", "dog"], [NamedSplit(near=near)], 0)


def test_a_class_is_named_once() -> None:
    with pytest.raises(ValueError, match="cat named twice"):
        NamedSplit(near=["cat"], val_near=["cat"])
