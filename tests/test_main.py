"""The command line as a person meets it."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pipeline
from pipeline.__main__ import PRESETS, STAGES, app
from pipeline.artifacts.dataset_json import SCHEMA_VERSION
from pipeline.presets import compose
from tests.conftest import ROOT


def test_help_lists_the_stages_in_order_with_a_line_each() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "160"}).stdout
    lines = [line.split()[0] for line in shown.splitlines() if line.startswith("  ") and line.strip()]
    assert [word for word in lines if word in STAGES] == list(STAGES)


def imported_by(*arguments: str) -> set[str]:
    """Modules that are loaded when a command, which has to succeed, is through."""
    code = (
        "import sys\n"
        "from pipeline.__main__ import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, *arguments]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


def test_help_imports_nothing_heavy() -> None:
    assert not {"torch", "diffusers", "numpy", "pyarrow", "matplotlib"} & imported_by("--help")


def test_showing_a_dataset_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "outliers-noise-000000.tar").write_bytes(b"a shard")
    about = {
        "schema_version": SCHEMA_VERSION,
        "shards": [
            {"name": "outliers-noise-000000.tar", "sha256": hashlib.sha256(b"a shard").hexdigest(), "samples": 1}
        ],
        "methods": {"noise": {"packed": 1, "candidates": 2, "rejected": {"flat": 1}}},
        "id": {"classes": ["a", "b"], "count": 10, "shape": [1, 8, 8]},
        "licence": "cc0-1.0",
    }
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    heavy = {"torch", "webdataset", "diffusers", "matplotlib", "sklearn", "pandas"}
    assert not heavy & imported_by("outliers", "show", str(tmp_path))


@pytest.mark.parametrize("module", ["sample", "infer", "serving.predict", "hub.datasets", "shards"])
def test_importing_a_module_imports_no_library_of_one_branch(module: str) -> None:
    code = f"import sys, pipeline.{module}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    heavy = {"torch._dynamo", "torchvision", "diffusers", "pytorch_ood", "timm", "sklearn", "pandas", "matplotlib"}
    assert not heavy & set(found.split())


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_explains_itself(stage: str) -> None:
    shown = CliRunner().invoke(app, [stage, "--help"])
    assert shown.exit_code == 0
    assert all(word in shown.stdout for word in ("Reads:", "Writes:", "Why:"))


def test_preset_writes_params_and_keeps_edits(workplace: Path) -> None:
    runner = CliRunner()
    (workplace / "params.yaml").unlink()
    assert runner.invoke(app, ["preset", "digits"]).exit_code == 0
    assert runner.invoke(app, ["preset", "folder"]).exit_code == 0  # an unedited preset may be replaced
    (workplace / "params.yaml").write_text("seed: 1\n")
    refused = runner.invoke(app, ["preset", "digits"])
    assert refused.exit_code == 1 and "was edited" in str(refused.exception)
    assert (workplace / "params.yaml").read_text() == "seed: 1\n"
    assert runner.invoke(app, ["preset", "digits", "--force"]).exit_code == 0
    (workplace / "params.yaml").unlink()
    (workplace / "params.yaml").mkdir()
    (workplace / "params.yaml/mine").touch()
    refused = runner.invoke(app, ["preset", "digits", "--force"])
    assert "never removed" in str(refused.exception) and (workplace / "params.yaml/mine").exists()


def test_preset_replaces_every_preset_and_keeps_what_is_no_text(workplace: Path) -> None:
    target = workplace / "params.yaml"
    for name in PRESETS:
        target.write_text(compose(name))
        assert CliRunner().invoke(app, ["preset", "folder"]).exit_code == 0
        assert target.read_text() == compose("folder")
    target.write_bytes(b"\xff")
    assert "was edited" in str(CliRunner().invoke(app, ["preset", "folder"]).exception)
    assert target.read_bytes() == b"\xff"


@pytest.mark.parametrize("name", pipeline.PUBLIC)
def test_what_cards_and_notebooks_name_is_there(name: str) -> None:
    assert getattr(pipeline, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Classifer'"):
        pipeline.Classifer  # noqa: B018
