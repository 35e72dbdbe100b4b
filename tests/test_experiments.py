"""Experiments as docs/experiments.md has them, in a git repository."""

import csv
import io
import json
from pathlib import Path

import pytest

from tests.conftest import ran, run

WEIGHT = "recipes.penumbra.outlier_exposure.weight"


def experiment(folder: Path, *options: str) -> str:
    done = run(["dvc", "exp", "run", *options], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shown(folder: Path) -> dict[str, dict[str, str]]:
    """What `dvc exp show` says of each experiment, by its name."""
    options = ["--only-changed", "--drop", r".*(json|csv|parquet)$|^data/.*", "--csv"]
    done = run(["dvc", "exp", "show", *options], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return {row["Experiment"] or row["rev"]: row for row in csv.DictReader(io.StringIO(done.stdout))}


def test_another_weight_trains_its_recipe_alone_and_is_shown_beside_the_first(repository: Path) -> None:
    before = json.loads((repository / "metrics/headline.json").read_text())
    done = run(["dvc", "exp", "run", "--name", "lighter", "-S", f"{WEIGHT}=0.4"], repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ran(done) == ["train", "infer", "score", "hold_out", "report"]
    assert "2 of 4" in done.stdout  # classifiers: the other recipe is taken over
    rows = shown(repository)
    assert float(rows["lighter"][WEIGHT]) == 0.4
    after = json.loads((repository / "metrics/headline.json").read_text())
    assert float(rows["lighter"]["penumbra.id_accuracy"]) == after["penumbra"]["id_accuracy"]
    assert after["baseline"]["own"] == before["baseline"]["own"] and after["penumbra"] != before["penumbra"]
    difference = run(["dvc", "exp", "diff", "HEAD", "lighter", "--json"], repository)
    changed = json.loads(difference.stdout)["params"]["params.yaml"]
    assert list(changed) == [WEIGHT] and (changed[WEIGHT]["old"], changed[WEIGHT]["new"]) == (0.5, 0.4)


@pytest.mark.slow
def test_queued_experiments_run_one_after_the_other(repository: Path) -> None:
    experiment(repository, "--queue", "-S", "train.steps=choice(8,12)")
    experiment(repository, "--run-all")
    found = {row["train.steps"]: row["penumbra.id_accuracy"] for row in shown(repository).values()}
    assert set(found) == {"8", "10", "12"} and all(found.values())
