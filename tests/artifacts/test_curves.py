from pathlib import Path

import pytest

from pipeline.artifacts import curves
from pipeline.runtime.errors import UserError

ROWS = [
    {"step": 0, "cross_entropy": 2.3025851249694824, "accuracy": 0.1},
    {"step": 25, "cross_entropy": 1e-05, "accuracy": 1.0},
]


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def draw(folder: Path) -> dict[str, str]:
    curves.start(folder)
    for row in ROWS:
        curves.add(folder, row)
    return contents(folder)


def test_a_table_for_each_term_and_the_last_row(tmp_path: Path) -> None:
    assert draw(tmp_path / "new") == {
        "plots/metrics/cross_entropy.tsv": "step\tcross_entropy\n0\t2.3025851249694824\n25\t1e-05\n",
        "plots/metrics/accuracy.tsv": "step\taccuracy\n0\t0.1\n25\t1.0\n",
        "metrics.json": '{\n    "cross_entropy": 1e-05,\n    "accuracy": 1.0,\n    "step": 25\n}\n',
    }


def test_a_run_begins_anew(tmp_path: Path) -> None:
    curves.add(tmp_path, {"step": 75, "energy": 0.5})
    assert draw(tmp_path) == draw(tmp_path / "other")


@pytest.mark.parametrize("taken", ["plots", "metrics.json"])
def test_what_cannot_be_written_is_one_line(tmp_path: Path, taken: str) -> None:
    place = tmp_path / taken
    place.parent.mkdir(exist_ok=True)
    if taken == "metrics.json":
        place.mkdir()
    else:
        place.write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        draw(tmp_path)
