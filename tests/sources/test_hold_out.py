from hypothesis import given
from hypothesis import strategies as st

from pipeline.settings.prepare import HoldOut
from pipeline.sources.hold_out import splits


@given(st.integers(5, 40), st.floats(0.01, 0.4), st.floats(0, 0.4), st.integers(1, 6), st.integers(0, 99))
def test_splits_keep_other_classes_aside_in_turn(
    count: int, near: float, val_near: float, number: int, seed: int
) -> None:
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
