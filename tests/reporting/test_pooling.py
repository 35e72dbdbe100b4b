"""Pooled runs: the run is the unit, whatever its training seeds say."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from pipeline.evaluation import summaries
from pipeline.reporting.pooling import pool
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import write_json

RUNS, SEEDS, IMAGES = 4, 3, 80


def scores_of(run: int, recipes: dict[str, float], prefix: str = "") -> pd.DataFrame:
    """A run's scores: every recipe's outliers lie its shift above ID, less what the run has drawn for all its seeds."""
    random, rows = np.random.default_rng(run), []
    for recipe, shift in recipes.items():
        of_run = random.normal(0, 0.3)
        for seed in range(run * SEEDS, (run + 1) * SEEDS):
            for name, role, offset in (("test", "id", 0.0), ("apples", "near", shift + of_run)):
                values = random.normal(offset, 1, IMAGES)
                rows += [
                    {"recipe": recipe, "seed": seed, "set": name, "role": role, "key": f"{prefix}{i}", "msp": value}
                    for i, value in enumerate(values)
                ]
    return pd.DataFrame(rows)


def write(folder: Path, scores: pd.DataFrame) -> Path:
    """The tables that `score` writes of such scores."""
    folder.mkdir(parents=True)
    measured = summaries.measure(scores)
    accuracies = scores[["recipe", "seed"]].drop_duplicates().assign(split="test", accuracy=90.0)
    scores.to_parquet(folder / "scores.parquet")
    measured.to_parquet(folder / "seeds.parquet")
    write_json(folder / "summary.json", summaries.summarise(measured, accuracies, ["msp"], "test"))
    write_json(folder / "choice.json", {"detector": "msp", "validation_auroc": {"msp": None}})
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[pd.DataFrame]:
    return [scores_of(i, {"baseline": 1.0, "penumbra": 1.8}) for i in range(RUNS)]


def auroc(scores: pd.DataFrame, recipe: str) -> float:
    """The mean over the training seeds, by scikit-learn."""
    own = scores[scores["recipe"] == recipe]
    return 100 * float(np.mean([roc_auc_score(one["set"] == "apples", one["msp"]) for _, one in own.groupby("seed")]))


def test_means_and_spread_are_over_runs(runs: list[pd.DataFrame], tmp_path: Path) -> None:
    folders = [write(tmp_path / str(i), scores) for i, scores in enumerate(runs)]
    results, differences = (table.frame for table in pool(folders, 200))
    for row in results.itertuples():
        values = [auroc(scores, row.recipe) for scores in runs]
        assert row._3.split(" (")[0] == f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
    delta = [auroc(scores, "penumbra") - auroc(scores, "baseline") for scores in runs]
    value, rest = differences.loc[0, "near AUROC ↑"].split(" ", 1)
    low, high = (float(end) for end in rest[1 : rest.index("]")].split(","))
    assert float(value) == pytest.approx(np.mean(delta), abs=0.05)
    of_runs = stats.ttest_1samp(delta, 0).confidence_interval(0.95)  # the images add to it, never take away
    assert low <= of_runs.low + 0.05 and high >= of_runs.high - 0.05
    assert high - low < 1.5 * (of_runs.high - of_runs.low)


def test_another_recipe_to_compare_with(runs: list[pd.DataFrame], tmp_path: Path) -> None:
    folders = [write(tmp_path / str(i), scores) for i, scores in enumerate(runs)]
    forth, back = (pool(folders, 200, name)[1] for name in ("baseline", "penumbra"))
    assert "minus penumbra" in back.title and list(back.frame["recipe"]) == ["baseline"]
    there, again = (float(table.frame.loc[0, "near AUROC ↑"].split()[0]) for table in (forth, back))
    assert there == -again != 0
    with pytest.raises(UserError, match="no recipe 'penumbr'.*did you mean penumbra.*--against takes baseline"):
        pool(folders, 200, "penumbr")


def test_runs_that_do_not_go_together(runs: list[pd.DataFrame], tmp_path: Path) -> None:
    first = write(tmp_path / "first", runs[0])
    with pytest.raises(UserError, match="two runs or more"):
        pool([first], 100)
    with pytest.raises(UserError, match="each once"):
        pool([first, tmp_path / "." / "first"], 100)
    with pytest.raises(UserError, match="missing: not the tables of a run"):
        pool([first, tmp_path / "missing"], 100)
    fewer = write(tmp_path / "fewer", scores_of(9, {"baseline": 1.0}))
    with pytest.raises(UserError, match="fewer: other recipes, detectors or number of seeds"):
        pool([first, fewer], 100)
    split_anew = scores_of(9, {"baseline": 1.0, "penumbra": 1.8}, prefix="other-")
    with pytest.raises(UserError, match="not the same test images"):
        pool([first, write(tmp_path / "anew", split_anew)], 100)
    with pytest.raises(UserError, match="training seed 0 is in several runs"):
        pool([first, write(tmp_path / "copy", runs[0])], 100)
