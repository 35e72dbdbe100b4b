"""dvc.yaml is the table of contents: it has to agree with the code, and nothing may be missing from it."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.__main__ import STAGES

ROOT = Path(__file__).parent.parent
# on any output
WITHOUT_EFFECT = {f"pipeline/{name}.py" for name in ("console", "errors", "processes", "timings")}
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def body(stage: str) -> dict[str, Any]:
    return DVC[stage].get("do", DVC[stage])


def imported(file: Path) -> set[Path]:
    """The project's modules that a module imports."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    paths = {ROOT / (name.replace(".", "/") + ".py") for name in names if name.startswith("pipeline")}
    return {path for path in paths if path.exists()}


def closure(stage: str) -> set[str]:
    """Every module of the project that runs when the stage does."""
    seen: set[Path] = set()
    left = {ROOT / f"pipeline/{stage}.py"}
    while left:
        file = left.pop()
        seen.add(file)
        left |= imported(file) - seen
    return {str(file.relative_to(ROOT)) for file in seen} - WITHOUT_EFFECT


def test_stages_stand_in_the_order_of_the_command_line() -> None:
    assert tuple(DVC) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_modules_that_run_and_no_more(stage: str) -> None:
    code = {dep for dep in body(stage)["deps"] if dep.startswith("pipeline/") and dep.endswith(".py")}
    assert code == closure(stage)


@pytest.mark.parametrize(("stage", "folder"), [("prepare", "benchmarks"), ("report", "reporting")])
def test_files_that_are_no_modules_are_deps_too(stage: str, folder: str) -> None:
    files = [path for path in (ROOT / "pipeline" / folder).iterdir() if path.suffix not in (".py", "")]
    named = body(stage)["deps"]
    assert files and all({str(path.relative_to(ROOT)), f"pipeline/{folder}"} & set(named) for path in files)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_no_other_stage(stage: str) -> None:
    stages = {f"pipeline/{name}.py" for name in STAGES}
    assert closure(stage) & stages == {f"pipeline/{stage}.py"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_one_file_with_reads_writes_and_why(stage: str) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / f"pipeline/{stage}.py").read_text())) or ""
    assert all(word in docstring for word in ("Reads:", "Writes:", "Why:"))


@pytest.mark.parametrize("stage", STAGES)
def test_params_exist(stage: str) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name in body(stage)["params"]:
        value = params
        for part in name.replace("${key}", "baseline").split("."):
            value = value[part]


def test_params_are_the_digits_preset() -> None:
    assert (ROOT / "params.yaml").read_text() == (ROOT / "pipeline/presets/digits.yaml").read_text()


def test_every_output_is_ignored_by_git_or_small() -> None:
    assert (ROOT / "data/.gitignore").read_text().splitlines()[-2:] == ["*", "!.gitignore"]
    for stage in STAGES:
        for out in body(stage).get("outs", []):
            if isinstance(out, dict):  # small tables that git keeps
                assert [name for name in out if re.fullmatch(r"metrics/[a-z]+\.json", name)] == list(out)
                assert all(about == {"cache": False} for about in out.values())
            else:
                assert out.startswith("data/") or out == "report" or re.fullmatch(r"metrics/[a-z]+\.parquet", out)


def test_the_headline_is_the_only_metric() -> None:
    """`dvc metrics` and `dvc exp show` print every number of every metrics file."""
    metrics = [name for stage in STAGES for one in body(stage).get("metrics", []) for name in one]
    assert metrics == ["metrics/headline.json"]


def test_artifacts_are_outputs_of_stages() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    outs = {out for stage in STAGES for out in body(stage).get("outs", []) if isinstance(out, str)}
    made = {out.replace("${key}", recipe) for out in outs for recipe in params["recipes"]}
    artifacts = yaml.safe_load((ROOT / "dvc.yaml").read_text())["artifacts"]
    assert set(artifacts) == {"outliers", "controls", "penumbra"}
    assert {about["path"] for about in artifacts.values()} <= made
