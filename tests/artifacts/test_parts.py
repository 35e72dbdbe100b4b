from pathlib import Path

import pytest
import torch

from pipeline.artifacts.parts import Part, fingerprint, in_parts, resumable


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
    with pytest.raises(Killed):
        list(resumable(folder, {"seed": 0}, 5, make))
    assert made == [0, 1, 2, 3]
    found = list(resumable(folder, {"seed": 0}, 5, make))
    assert made == [0, 1, 2, 3, 3, 4]
    assert torch.equal(torch.stack([part["value"] for part in found]), torch.arange(5.0)[:, None].expand(5, 2))
    assert [int(part["row"]) for part in found] == list(range(5))
    assert not folder.exists()


def test_parts_of_another_identity_are_not_taken_over(tmp_path: Path) -> None:
    first = resumable(tmp_path / "parts", {"seed": 0}, 3, lambda i: {"x": torch.zeros(1)})
    next(first)  # and then killed
    found = list(resumable(tmp_path / "parts", {"seed": 1}, 3, lambda i: {"x": torch.ones(1)}))
    assert torch.equal(torch.cat([part["x"] for part in found]), torch.ones(3))


@pytest.mark.parametrize("batch", [1, 4, 7, 20])
def test_items_come_in_order_whatever_the_batch(tmp_path: Path, batch: int) -> None:
    asked: list[range] = []

    def make(rows: range) -> Part:
        asked.append(rows)
        return {"row": torch.tensor(rows), "flag": torch.tensor(rows) % 2 == 0}

    found = in_parts(tmp_path / "parts", {}, 11, batch, make, "test")
    assert torch.equal(found["row"], torch.arange(11)) and found["flag"].dtype == torch.bool
    assert [i for rows in asked for i in rows] == list(range(11))
    assert max(map(len, asked)) <= batch


def test_a_fingerprint_follows_every_file(tmp_path: Path) -> None:
    (tmp_path / "folder/inner").mkdir(parents=True)
    for name in ("a", "folder/b", "folder/inner/c"):
        (tmp_path / name).write_text(name)
    before = fingerprint(tmp_path / "a", tmp_path / "folder")
    assert len(before) == 3
    (tmp_path / "folder/inner/c").write_text("changed")
    assert fingerprint(tmp_path / "a", tmp_path / "folder")[:2] == before[:2]
    assert fingerprint(tmp_path / "a", tmp_path / "folder") != before
