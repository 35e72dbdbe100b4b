"""A small project that ran: `dvc repro` in a temporary folder, with settings that take a second a stage."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
RECIPES = ("baseline", "penumbra")


def toy_params() -> dict[str, Any]:
    """The `digits` preset, cut down."""
    settings = yaml.safe_load((ROOT / "pipeline/presets/digits.yaml").read_text())
    settings["autoencoder"] |= {"steps": 12, "widths": [8, 16]}
    settings["teacher"] |= {"steps": 25}
    settings["boundary"] |= {"count": 160, "draws": 8, "anchors": 5}
    settings["diffusion"] |= {"steps": 8, "widths": [8, 16]}
    settings["embedding"] |= {"count": 160, "draws": 8, "anchors": 5, "steps": 3, "batch": 64}
    settings["mixup"] |= {"count": 160, "synthetic_id": 60, "steps": 3, "batch": 64}
    settings["shards"] |= {"per_method": 60, "per_shard": 50, "filters": ["non-finite", "flat"], "max_id_like": 1.0}
    settings["train"] |= {"auxiliary_count": 60, "steps": 10, "seeds": [0, 1]}
    settings["infer"]["detectors"] = {"odin": {"temperature": 1000.0, "eps": 0.0014}}
    settings["recipes"] = {name: settings["recipes"][name] for name in RECIPES}
    return settings


def make_project(folder: Path, settings: dict[str, Any]) -> Path:
    """A clone of the project as far as DVC needs it."""
    shutil.copytree(ROOT / "pipeline", folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", ".dvc/config", ".dvc/plots/curves.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    with (folder / ".dvc/config").open("a") as config:
        config.write("    no_scm = true\n")  # of the section [core], the file's only one
    (folder / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return folder


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment in a folder."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which `dvc repro` ran."""
    folder = make_project(tmp_path_factory.mktemp("project"), toy_params())
    done = run(["dvc", "repro"], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project to break: the toy params.yaml, the working directory inside."""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(toy_params(), sort_keys=False))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
