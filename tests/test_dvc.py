"""dvc.yaml is the table of contents: it has to agree with the code, and nothing may be missing from it."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo

from pipeline.__main__ import STAGES
from pipeline.runtime.closure import closure
from tests.conftest import ROOT, make_project, toy_params

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
AFTER_FIRST = STAGES[1:]


def body(stage: str) -> dict[str, Any]:
    return DVC[stage]


def outs(stage: str) -> list[str]:
    return [next(iter(out)) if isinstance(out, dict) else out for out in body(stage).get("outs", [])]


def test_stages_stand_in_the_order_of_the_command_line() -> None:
    assert tuple(DVC) == STAGES


@pytest.mark.parametrize("stage", AFTER_FIRST)
def test_a_stage_depends_on_its_fingerprint_and_on_no_code(stage: str) -> None:
    deps = body(stage)["deps"]
    assert f"data/fingerprints/{stage}.json" in deps and not [dep for dep in deps if dep.startswith("pipeline")]
    assert sum("fingerprints" in dep for dep in deps) == 1


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_described(stage: str) -> None:
    assert 3 <= len(body(stage)["desc"].split()) <= 12  # `dvc stage list` shows it


def test_the_fingerprints_are_the_outputs_of_the_first_stage() -> None:
    assert outs("fingerprint") == [f"data/fingerprints/{stage}.json" for stage in AFTER_FIRST]
    assert body("fingerprint")["always_changed"] and all(
        out[next(iter(out))] == {"persist": True} for out in body("fingerprint")["outs"]
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_no_other_stage(stage: str) -> None:
    stages = {ROOT / f"pipeline/{name}.py" for name in STAGES}
    assert closure(f"pipeline.{stage}") & stages == {ROOT / f"pipeline/{stage}.py"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_one_file_with_reads_writes_and_why(stage: str) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / f"pipeline/{stage}.py").read_text())) or ""
    assert all(word in docstring for word in ("Reads:", "Writes:", "Why:"))


@pytest.mark.parametrize("stage", AFTER_FIRST)
def test_params_exist(stage: str) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name in body(stage)["params"]:
        value = params
        for part in name.split("."):
            value = value[part]


def test_params_are_the_digits_preset() -> None:
    assert (ROOT / "params.yaml").read_text() == (ROOT / "pipeline/presets/digits.yaml").read_text()


def test_every_output_is_ignored_by_git_or_small() -> None:
    assert (ROOT / "data/.gitignore").read_text().splitlines()[-2:] == ["*", "!.gitignore"]
    for stage in STAGES:
        for out in body(stage).get("outs", []):
            if isinstance(out, dict):  # small tables that git keeps
                kinds = {
                    r"metrics/[a-z_]+\.json": {"cache": False},
                    r"data/fingerprints/[a-z_]+\.json": {"persist": True},
                    r"data/(candidates|models/recipes|curves|outputs|hold_out)": {
                        "persist": True
                    },  # taken over where unchanged
                }
                [(name, about)] = out.items()
                assert [kind for pattern, kind in kinds.items() if re.fullmatch(pattern, name)] == [about]
            else:
                assert out.startswith("data/") or out == "report" or re.fullmatch(r"metrics/[a-z]+\.parquet", out)


def test_the_headline_is_the_only_metric() -> None:
    """`dvc metrics` and `dvc exp show` print every number of every metrics file."""
    metrics = [name for stage in STAGES for one in body(stage).get("metrics", []) for name in one]
    assert metrics == ["metrics/headline.json"]


def test_artifacts_are_outputs_of_stages() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    everything = {out for stage in STAGES for out in outs(stage)}
    made = everything | {f"data/models/recipes/{recipe}" for recipe in params["recipes"]}
    artifacts = yaml.safe_load((ROOT / "dvc.yaml").read_text())["artifacts"]
    assert set(artifacts) == {"outliers", "controls", "classifier", "classifiers"}
    assert all(about["labels"] and about["meta"] for about in artifacts.values())
    assert {about["path"].replace("${shipped}", params["shipped"]) for about in artifacts.values()} <= made


def test_the_shipped_recipe_may_have_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = toy_params() | {"shipped": "mine"}
    settings["recipes"]["mine"] = settings["recipes"].pop("penumbra")
    monkeypatch.chdir(make_project(tmp_path, settings))
    with Repo(str(tmp_path)) as repo:
        assert repo.artifacts.read()["dvc.yaml"]["classifier"].path == "data/models/recipes/mine"
        plotted = str(repo.index._plots)
    assert "data/curves/mine/s0" in plotted and "penumbra" not in plotted.replace(str(tmp_path), "")
