from pathlib import Path

import pytest
import torch

from pipeline.runtime.resumable import Part, hashes_of, ranges, resumable


class Killed(BaseException):
    """What no handler of the project catches."""


def test_a_killed_run_goes_on_at_the_first_unfinished_part(tmp_path: Path) -> None:
    made: list[int] = []

    def make(i: int) -> Part:
        if i == 3 and made.count(3) == 0:
            made.append(3)
            raise Killed
        made.append(i)
        return {"value": torch.full((2,), float(i)), "row": torch.tensor([i])}

    folder = tmp_path / "parts"
    with pytest.raises(Killed), resumable(folder, {"seed": 0}, 5, make, "test"):
        raise AssertionError("not all parts are there")
    assert made == [0, 1, 2, 3]
    with resumable(folder, {"seed": 0}, 5, make, "test") as found:
        assert made == [0, 1, 2, 3, 3, 4]
        assert torch.equal(found.whole()["value"], torch.arange(5.0).repeat_interleave(2))
        assert [int(found[i]["row"]) for i in range(5)] == list(range(5))
        assert list(found.load(2, "v")) == ["alue"] and list(found.load(2, "row")) == [""]
    assert not folder.exists()


def test_parts_stay_where_their_use_was_killed(tmp_path: Path) -> None:
    made: list[int] = []

    def make(i: int) -> Part:
        made.append(i)
        return {"x": torch.zeros(1)}

    with pytest.raises(Killed), resumable(tmp_path / "parts", {}, 3, make, "test"):
        raise Killed
    with resumable(tmp_path / "parts", {}, 3, make, "test"):
        assert made == [0, 1, 2]


def test_parts_of_another_identity_are_not_taken_over(tmp_path: Path) -> None:
    with pytest.raises(Killed), resumable(tmp_path / "parts", {"seed": 0}, 3, lambda i: {"x": torch.zeros(1)}, "test"):
        raise Killed
    with resumable(tmp_path / "parts", {"seed": 1}, 3, lambda i: {"x": torch.ones(1)}, "test") as found:
        assert torch.equal(found.whole()["x"], torch.ones(3))


@pytest.mark.parametrize("size", [1, 4, 7, 20])
def test_ranges_cover_each_item_once_in_order(size: int) -> None:
    found = ranges(11, size)
    assert [i for own in found for i in own] == list(range(11))
    assert max(map(len, found)) <= size and ranges(0, size) == []


def test_a_fingerprint_follows_every_file(tmp_path: Path) -> None:
    (tmp_path / "folder/inner").mkdir(parents=True)
    for name in ("a", "folder/b", "folder/inner/c"):
        (tmp_path / name).write_text(name)
    before = hashes_of(tmp_path / "a", tmp_path / "folder")
    assert len(before) == 3
    (tmp_path / "folder/inner/c").write_text("changed")
    assert hashes_of(tmp_path / "a", tmp_path / "folder")[:2] == before[:2]
    assert hashes_of(tmp_path / "a", tmp_path / "folder") != before
