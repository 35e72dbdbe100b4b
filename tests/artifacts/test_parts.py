from pathlib import Path

import pytest
import torch

from pipeline.artifacts.parts import resumable


class Killed(BaseException):
    """What no handler of the project catches."""


def test_a_killed_run_goes_on_at_the_first_unfinished_part(tmp_path: Path) -> None:
    made: list[int] = []

    def make(i: int) -> torch.Tensor:
        if i == 3 and made.count(3) == 0:
            made.append(3)
            raise Killed
        made.append(i)
        return torch.full((2,), float(i))

    folder = tmp_path / "parts"
    with pytest.raises(Killed):
        list(resumable(folder, {"seed": 0}, 5, make))
    assert made == [0, 1, 2, 3]
    found = torch.stack(list(resumable(folder, {"seed": 0}, 5, make)))
    assert made == [0, 1, 2, 3, 3, 4]
    assert torch.equal(found, torch.arange(5.0)[:, None].expand(5, 2))
    assert not folder.exists()


def test_parts_of_another_identity_are_not_taken_over(tmp_path: Path) -> None:
    first = resumable(tmp_path / "parts", {"seed": 0}, 3, lambda i: torch.zeros(1))
    next(first)  # and then killed
    found = list(resumable(tmp_path / "parts", {"seed": 1}, 3, lambda i: torch.ones(1)))
    assert torch.equal(torch.cat(found), torch.ones(3))
