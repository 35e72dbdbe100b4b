"""Detectors against their published definitions on real outputs: the largest difference of an AUROC.

In a checkout with data/outputs, after `dvc repro`: pytest tests/benchmarks/test_published.py --benchmark-only -s
"""

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from pipeline.artifacts import outputs
from pipeline.artifacts.outputs import Outputs
from pipeline.evaluation.detectors import fit
from pipeline.evaluation.metrics import auroc
from pipeline.runtime.errors import UserError
from tests.evaluation.published import PUBLISHED, Data

FOLDER = Path("data/outputs")
RECIPES = ("baseline", "noise", "boundary", "mixup", "without-boundary", "penumbra")
OPTIONS = {"weiper": {"images": 1_000_000}}


def differences(name: str, loaded: list[dict[str, Outputs]], heads: list) -> list[float]:
    """Of each model and OOD set, in points."""
    options, formula = PUBLISHED[name]
    found = []
    for own, head in zip(loaded, heads, strict=True):
        try:
            score = fit(name, options | OPTIONS.get(name, {}), own["train"], own["val"], head)
        except UserError as error:
            assert "No correct predictions" in str(error)
            continue
        expected = {key: formula(Data(own["train"], own["val"], part, head), **options) for key, part in own.items()}
        for key in set(own) - {"train", "val", "test"}:
            ours, theirs = auroc(score(own["test"]), score(own[key])), auroc(expected["test"], expected[key])
            found.append(abs(ours - theirs))
    return found


@pytest.mark.skipif(not FOLDER.is_dir(), reason="no outputs: run `dvc repro` first")
@pytest.mark.parametrize("name", PUBLISHED)
def test_published(benchmark: BenchmarkFixture, name: str) -> None:
    folders = [FOLDER / recipe / "s0" for recipe in RECIPES if (FOLDER / recipe / "s0").is_dir()]
    assert folders
    loaded = [{key: file.load() for key, file in outputs.find(folder).items()} for folder in folders]
    heads = [outputs.load_head(folder) for folder in folders]
    found = benchmark.pedantic(differences, (name, loaded, heads), rounds=1)
    print(f"\n| `{name}` | {max(found):.4f} |" if found else f"\n| `{name}` | not defined |")
