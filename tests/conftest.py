"""A small project that ran: `dvc repro` in a temporary folder, with settings that take a second a stage."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from pipeline import STAGES
from pipeline.__main__ import _run

# before torch is imported: how a sum is cut into threads shows in its last bits, and workers share the processors
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent
FAULTS = "<!-- the table below is written by pytest --faults -->"
RECIPES = ("baseline", "penumbra")
OUTLIERS = ("boundary", "boundary-crossing", "embedding", "mixup", "attribution")
CONTROLS = (
    "noise", "pixel-mixup", "cut-mix", "soft-cut-mix", "sharpened", "id-itself", "oracle", "synthetic-id", "decoded-id",
)  # fmt: skip


def toy_params() -> dict[str, Any]:
    """The `digits` preset, cut down."""
    settings = yaml.safe_load((ROOT / "pipeline/presets/digits.yaml").read_text())
    settings["autoencoder"] |= {"steps": 12, "widths": [8, 16]}
    settings["teacher"] |= {"steps": 25}
    settings["diffusion"] |= {"steps": 8, "widths": [8, 16]}
    sampling = {"steps": 3, "batch": 64}
    settings["sample"]["boundary"] |= {"count": 160, "perturbations": 8, "anchors": 5}
    settings["sample"]["boundary-crossing"] |= {"count": 160}
    settings["sample"]["embedding"] |= {"count": 160, "perturbations": 8, "anchors": 5} | sampling
    settings["sample"]["mixup"] |= {"count": 160} | sampling
    settings["sample"]["synthetic-id"] |= sampling
    settings["sample"]["attribution"] |= {"count": 160}
    settings["shards"] |= {"per_method": 60, "per_shard": 50, "filters": ["non-finite", "flat"], "max_id_like": 1.0}
    settings["train"] |= {"auxiliary_count": 60, "steps": 10, "seeds": [0, 1]}
    settings["infer"]["detectors"] = {"odin": {"temperature": 1000.0, "eps": 0.0014}}
    settings["recipes"] = {name: settings["recipes"][name] for name in RECIPES}
    settings["methods"] = [*OUTLIERS, *CONTROLS]  # all there are
    return settings


def in_fast_precision(settings: dict[str, Any]) -> None:
    """Take the presets' bfloat16 back where the processor has no instructions for it: there it is many times slower."""
    import torch

    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        for section in ("encode", "teacher", "train"):
            settings[section]["precision"] = "float32"


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
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)


@pytest.fixture
def repository(project: Path, tmp_path: Path) -> Path:
    """A copy of the finished project as a git repository, as a clone is."""
    folder = Path(shutil.copytree(project, tmp_path / "repository", symlinks=True))
    for name in (".gitignore", ".dvc/.gitignore", "data/.gitignore", "metrics/.gitignore"):
        shutil.copy(ROOT / name, folder / name)
    for command in (
        ["git", "init", "--quiet"],
        ["git", "config", "user.name", "somebody"],
        ["git", "config", "user.email", "somebody@example.org"],
        ["dvc", "config", "core.no_scm", "false"],
    ):
        assert run(command, folder).returncode == 0, command
    commit(folder, "a finished run")
    return folder


def commit(folder: Path, message: str) -> None:
    """Commit all that git does not ignore."""
    for command in (["git", "add", "--all"], ["git", "commit", "--quiet", "--message", message]):
        done = run(command, folder)
        assert done.returncode == 0, done.stdout + done.stderr


def ran(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The stages that `dvc repro` ran, but for the first one, which always runs."""
    names = [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]
    assert names[:1] == [STAGES[0]], done.stdout + done.stderr
    return names[1:]


def run_stages(settings: dict[str, Any]) -> None:
    """Every stage in its order in this process, in the working directory, whose params.yaml holds these settings."""
    for stage in STAGES:
        _run(stage)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A project whose stages ran, in one process, and whose results DVC knows as those of `dvc repro`.

    All workers of pytest-xdist share one.
    """
    base = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    folder, done = base / "project", base / "project-is-done"
    with FileLock(base / "project.lock"):
        if not done.exists():
            finish(make_project(folder, toy_params()))
            done.touch()
    return folder


def finish(folder: Path) -> None:
    """Run every stage of a project, and let DVC know the results."""
    every_stage = "from pipeline.__main__ import STAGES, _run; [_run(stage) for stage in STAGES]"
    for command in ([sys.executable, "-c", every_stage], ["dvc", "commit", "--force"]):
        done = run(command, folder)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project to break: the toy params.yaml, the working directory inside."""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(toy_params(), sort_keys=False))
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One test that needs the finished project comes first and the others last, so that no worker waits for it."""
    needing = [item for item in items if "project" in getattr(item, "fixturenames", ())]
    waiting = set(needing)
    rest = [item for item in items if item not in waiting]
    items[:] = [*needing[:1], *rest, *needing[1:]]


Fault = Callable[[str, str, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", type=Path, help="write the table of faults that were tried to this file")
    parser.addoption("--kills", type=int, default=2, help="how often tests/test_kills.py kills a stage")


@pytest.fixture
def fault(record_property: Callable[[str, object], None], tmp_path: Path) -> Fault:
    """Notes a fault for the table: what it hit, what it was, what came of it; paths start in the test's folder."""

    def note(place: str, what: str, outcome: str) -> None:
        record_property("fault", (place, what, outcome.replace(f"{tmp_path}/", "")))

    return note


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table of faults: each once, with the number of times it was tried."""
    if (target := config.getoption("--faults")) is None:
        return
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    tried = Counter(
        (*found, report.outcome) for report in reports for name, found in report.user_properties if name == "fault"
    )
    rows = [f"| {place} | {what} | {times} | {said} | {ended} |" for (place, what, said, ended), times in tried.items()]
    rows = [row.replace("\n", " ").replace("<", "&lt;") for row in rows]  # what looks like a tag is not shown
    head = ["| hit | fault | times | outcome | test |", "| --- | --- | --- | --- | --- |"]
    text = target.read_text(encoding="utf-8").split(FAULTS)[0] if target.exists() else ""
    total = sum(tried.values())
    lines = [FAULTS, "", f"{len(tried)} faults, {total} times.", "", *head, *rows]
    target.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")
