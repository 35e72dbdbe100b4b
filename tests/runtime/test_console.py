import time

import pytest

from pipeline.runtime import console


def test_a_slow_first_item_says_nothing_and_later_ones_tell_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 9.0, 18.0, 27.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    assert list(console.track("abc", "work", 3)) == ["a", "b", "c"]
    assert capsys.readouterr().out.splitlines() == ["work: 1/3, about 36 s left", "work: 2/3, about 14 s left"]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_loop_within_a_loop_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    monkeypatch.setattr(console, "PLAIN_INTERVAL", 0.0)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    for _ in range(2):  # and the next one is shown again
        assert [list(console.track("ab", "inner", 2)) for _ in console.track("xyz", "outer", 3)] == [["a", "b"]] * 3
        shown = capsys.readouterr().out
        assert "outer" in shown and "inner" not in shown


def test_a_loop_of_one_item_leaves_the_bar_to_the_loop_within(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "PLAIN_INTERVAL", 0.0)
    assert [list(console.track("ab", "inner", 2)) for _ in console.track("x", "outer", 1)] == [["a", "b"]]
    assert capsys.readouterr().out.splitlines()[0].startswith("inner: 1/2")


def test_after_a_loop_that_was_left_the_next_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "PLAIN_INTERVAL", 0.0)
    with pytest.raises(RuntimeError, match="gone"):
        for _ in console.track("xyz", "left", 3):
            raise RuntimeError("gone")
    assert list(console.track("ab", "next", 2)) == ["a", "b"]
    assert "next: 1/2" in capsys.readouterr().out
