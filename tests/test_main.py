"""The command line as a person meets it."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.__main__ import PRESETS, STAGES, app
from pipeline.presets import compose
from tests.conftest import ROOT


def test_help_lists_the_stages_in_order_with_a_line_each() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "160"}).stdout
    lines = [line.split()[0] for line in shown.splitlines() if line.startswith("  ") and line.strip()]
    assert [word for word in lines if word in STAGES] == list(STAGES)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, contextlib\n"
        "sys.argv = ['penumbra', '--help']\n"
        "from pipeline.__main__ import main\n"
        "with contextlib.suppress(SystemExit): main()\n"
        "print(sorted({'torch', 'diffusers', 'numpy', 'pyarrow', 'matplotlib'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"


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
