"""What was made from the same inputs, settings and code is taken over; what is named no more is removed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import diffusion, infer, sample, shards, train
from pipeline.__main__ import _run
from pipeline.runtime.layout import CANDIDATES, CLASSIFIERS, CONTROLS, CURVES, MODELS, OUTPUTS
from tests.conftest import CONTROLS as ALL_CONTROLS
from tests.conftest import OUTLIERS, RECIPES, toy_params


@pytest.fixture
def finished(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished toy project, the working directory."""
    shutil.copytree(project / "data", tmp_path / "data")
    shutil.copy(project / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edit(change: Callable[[dict[str, Any]], Any]) -> None:
    settings = toy_params()
    change(settings)
    Path("params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))


@pytest.fixture
def trained(finished: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Which classifiers are trained, recipe and seed; none is in fact."""
    found: list[tuple[str, int]] = []
    monkeypatch.setattr(train, "make", lambda one, *rest: found.append((one.name, one.seed)))
    return found


@pytest.fixture
def drawn(finished: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of which methods candidates are drawn; none are in fact."""
    found: list[str] = []
    monkeypatch.setattr(sample, "make", lambda name, *rest: found.append(name))
    return found


TRAININGS: dict[str, tuple[Callable[[dict[str, Any]], Any], list[tuple[str, int]]]] = {
    "nothing": (lambda own: None, []),
    "how often its state is kept": (lambda own: own["train"].update(checkpoint_every=3), []),
    "one more seed": (lambda own: own["train"].update(seeds=[0, 1, 7]), [("baseline", 7), ("penumbra", 7)]),
    "one more recipe": (
        lambda own: own["recipes"].update(more={"head": {"kind": "adacos"}}), [("more", 0), ("more", 1)],
    ),
    "the weight of a term": (
        lambda own: own["recipes"]["penumbra"]["outlier_exposure"].update(weight=0.4),
        [("penumbra", 0), ("penumbra", 1)],
    ),
    "fewer outliers": (lambda own: own["train"].update(auxiliary_count=40), [("penumbra", 0), ("penumbra", 1)]),
    "the steps of all": (
        lambda own: own["train"].update(steps=9), [(name, seed) for name in RECIPES for seed in (0, 1)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAININGS)
def test_only_what_a_change_concerns_is_trained(name: str, trained: list[tuple[str, int]]) -> None:
    change, expected = TRAININGS[name]
    edit(change)
    train.main()
    assert trained == expected


def test_a_classifier_that_is_missing_or_half_there_is_trained(trained: list[tuple[str, int]]) -> None:
    shutil.rmtree(CLASSIFIERS / "baseline/s1")
    shutil.rmtree(CURVES / "penumbra/s0")
    train.main()
    assert trained == [("baseline", 1), ("penumbra", 0)]


def test_another_teacher_concerns_what_is_distilled_from_it(trained: list[tuple[str, int]]) -> None:
    with (MODELS / "teacher/config.json").open("a") as file:
        file.write("\n")
    train.main()
    assert trained == [("penumbra", 0), ("penumbra", 1)]


def test_code_that_training_stands_on_concerns_all(
    trained: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "code_of", lambda *modules: "edited")
    train.main()
    assert len(trained) == 4


@pytest.fixture
def weights_trained(finished: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which weights are trained; none are in fact."""
    found: list[str] = []

    def never(one: Any, *rest: Any) -> None:
        found.append(one.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train", never)
    return found


def test_another_score_or_an_edited_detector_is_shipped_with_the_same_weights(
    weights_trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in CLASSIFIERS.rglob("model.safetensors")}
    edit(lambda own: own["train"].update(score={"msp": {}, "knn": {"k": 3}}))
    train.main()
    code = train.code_of
    monkeypatch.setattr(train, "code_of", lambda name: "edited" if name == "pipeline.train" else code(name))
    train.main()
    assert not weights_trained and {path: path.read_bytes() for path in before} == before
    assert len(before) == 4 and '"knn"' in (CLASSIFIERS / "baseline/s0/detector.json").read_text()


def test_one_recipe_by_name(trained: list[tuple[str, int]]) -> None:
    edit(lambda own: own["train"].update(steps=9))
    train.main("baseline")
    assert trained == [("baseline", 0), ("baseline", 1)]


def test_recipes_and_seeds_that_are_named_no_more_are_removed(trained: list[tuple[str, int]]) -> None:
    edit(lambda own: (own["recipes"].pop("penumbra"), own["train"].update(seeds=[1])))
    (MODELS / ".recipe-penumbra-s1.checkpoint").touch()  # of a killed run
    train.main()
    assert not list(MODELS.glob(".*"))
    for root in (CLASSIFIERS, CURVES):
        assert sorted(path.relative_to(root).as_posix() for path in root.glob("*/*")) == ["baseline/s1"]
        assert [path.name for path in root.iterdir()] == ["baseline"]


def test_another_method_beside_them_trains_no_recipe_that_does_not_use_it(
    trained: list[tuple[str, int]], finished: Path
) -> None:
    edit(lambda own: own.update(methods=[name for name in own["methods"] if name not in ("mixup", "cut-mix")]))
    shards.main()
    train.main()
    assert trained == []


def test_only_what_a_change_concerns_is_drawn(drawn: list[str]) -> None:
    sample.main()
    assert drawn == []
    edit(lambda own: own["sample"]["boundary"].update(sigmas=[1.0, 3.0]))
    sample.main()
    assert drawn == ["boundary"]
    drawn.clear()
    edit(lambda own: own["shards"].update(per_method=50))
    sample.main()
    assert drawn == list(ALL_CONTROLS)  # they have no count of their own


def test_candidates_of_a_damaged_file_are_drawn_again(drawn: list[str]) -> None:
    path = CANDIDATES / "mixup.arrow"
    path.write_bytes(path.read_bytes()[:1000])
    sample.main()
    assert drawn == ["mixup"]


def test_methods_that_are_named_no_more_are_removed_and_not_packed(finished: Path) -> None:
    edit(lambda own: own.update(methods=["boundary", "boundary+contrast"]))
    (CANDIDATES.parent / ".candidates-mixup.parts/key").mkdir(parents=True)  # of a killed run
    sample.main()
    assert [path.name for path in CANDIDATES.iterdir()] == ["boundary.arrow"]
    assert not list(CANDIDATES.parent.glob(".*.parts"))
    shards.main()
    about = yaml.safe_load((CONTROLS / "dataset.json").read_text())
    assert about["methods"] == {} and about["shards"] == [] and (CONTROLS / "decoded-test.parquet").is_file()
    outliers = yaml.safe_load(Path("data/outliers/dataset.json").read_text())
    assert list(outliers["methods"]) == ["boundary", "boundary+contrast"]


def test_a_diffusion_model_that_no_method_draws_from_is_not_trained(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("it is trained")

    monkeypatch.setattr(diffusion, "train", refuse)
    monkeypatch.setattr(diffusion, "load_data", refuse)
    without = [name for name in OUTLIERS if name not in ("embedding", "mixup")]
    edit(lambda own: own.update(methods=[*without, "noise"]))
    _run("diffusion")
    assert list((MODELS / "diffusion").iterdir()) == []
    edit(lambda own: own.update(methods=["synthetic-id"]))
    with pytest.raises(AssertionError, match="it is trained"):
        _run("diffusion")


def test_outputs_of_models_that_are_as_they_were_are_taken_over(finished: Path) -> None:
    def times() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in sorted(OUTPUTS.rglob("*.parquet"))}

    before = times()
    infer.main()
    assert times() == before
    expected = {path: Path(path).read_bytes() for path in before}
    (OUTPUTS / "penumbra/s1/outputs.json").unlink()
    infer.main()
    changed = {path for path, time in times().items() if time != before[path]}
    assert changed == {path for path in before if "/penumbra/s1/" in path}
    assert {path: Path(path).read_bytes() for path in before} == expected
    shutil.rmtree(CLASSIFIERS / "baseline/s0")
    infer.main()
    assert not (OUTPUTS / "baseline/s0").exists() and (OUTPUTS / "baseline/s1").is_dir()
