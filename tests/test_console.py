import time

import pytest

from pipeline import console


def test_a_slow_first_item_says_nothing_and_later_ones_tell_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 9.0, 18.0, 27.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    assert list(console.track("abc", "work", 3)) == ["a", "b", "c"]
    assert capsys.readouterr().out.splitlines() == ["work: 1/3, about 36 s left", "work: 2/3, about 14 s left"]
