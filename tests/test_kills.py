"""Stages that are killed, run out of disk or meet another run of themselves: nothing half-written, the same bytes.

Here a few kills of two stages; `pytest -m slow tests/test_kills.py` tries every long stage, and `--kills N` kills each
N times.
"""

import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from pipeline import STAGES
from pipeline.__main__ import app
from tests.conftest import make_project, toy_params
from tests.test_pipeline import digests

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3000)]
LONG = [name for name in STAGES if name not in ("fingerprint", "features", "score", "hold_out", "report")]
ROOM = 16_384  # bytes left on the file system: room for a lock and little else
IN_A_ROW = 5  # kills before a run may come to its end
FEW = ("sample", "infer")  # in the normal suite
# processes that begin with everything imported, which takes longer than the toy's stages: kills shall hit the work
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([f"pipeline.{stage}" for stage in STAGES])
OUTPUTS = {
    "prepare": ["data/images"], "autoencoder": ["data/models/autoencoder"], "encode": ["data/latents"],
    "teacher": ["data/models/teacher"], "diffusion": ["data/models/diffusion"], "sample": ["data/candidates"],
    "shards": ["data/outliers", "data/controls"], "train": ["data/models/recipes"],
    "infer": ["data/outputs"],
}  # fmt: skip


FORGET = {  # of stages that take over what is there: without this file a part of it is made again
    "sample": "data/candidates/mixup.arrow", "train": "data/models/recipes/penumbra/s1/training.json",
    "infer": "data/outputs/penumbra/s1/outputs.json",
}  # fmt: skip


def forget(folder: Path, stage: str) -> None:
    """Leave a stage something to do."""
    if stage in FORGET:
        (folder / FORGET[stage]).unlink()


def lasting(folder: Path) -> dict[str, str]:
    """The digests of all but the curves, which grow with each row."""
    return {name: own for name, own in digests(folder).items() if not name.startswith("data/curves/")}


@pytest.fixture
def unfinished(request: pytest.FixtureRequest, project: Path, tmp_path: Path) -> tuple[str, Path]:
    """A stage, and a copy of the finished project without what the stage writes."""
    stage = request.param
    folder = make_project(tmp_path / "work", toy_params())
    shutil.copytree(project / "data", folder / "data", dirs_exist_ok=True)
    return stage, folder


def remove(folder: Path, stage: str) -> None:
    for output in OUTPUTS[stage]:
        path = folder / output
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def start(folder: Path, stage: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipeline", *stage.split()]
    return subprocess.Popen(  # type: ignore[call-overload]
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options
    )


def run_stage(folder: Path, stage: str) -> None:
    """In a process of its own: what the command line does, without a word."""
    os.chdir(folder)
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    app(stage.split())


def fork(folder: Path, stage: str) -> BaseProcess:
    process = FORKS.Process(target=run_stage, args=(folder, stage))
    process.start()
    return process


def succeeds(folder: Path, stage: str) -> bool:
    process = fork(folder, stage)
    process.join()
    return process.exitcode == 0


def hidden(folder: Path) -> list[Path]:
    return [path for path in (folder / "data").rglob(".*") if path.name != ".gitignore"]


@pytest.mark.parametrize(
    "unfinished", [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in LONG], indirect=True
)
def test_killed_at_random_and_run_again(
    unfinished: tuple[str, Path], pytestconfig: pytest.Config, fault: Callable[[str, str, str], None]
) -> None:
    stage, folder = unfinished
    expected = digests(folder)
    remove(folder, stage)
    assert succeeds(folder, stage)  # the first one waits for the imports
    remove(folder, stage)
    begun = time.monotonic()
    assert succeeds(folder, stage)
    undisturbed = time.monotonic() - begun
    assert digests(folder) == expected and not hidden(folder)
    random = np.random.default_rng(0)
    left = pytestconfig.getoption("--kills")
    while left > 0:
        remove(folder, stage)
        for _ in range(min(left, IN_A_ROW)):  # each run goes on from what the one before left
            process = fork(folder, stage)
            time.sleep(random.uniform(0.0, 1.0) * undisturbed)
            process.kill()
            process.join()
            whole = lasting(folder)
            assert {name: whole[name] for name in whole if name in expected}.items() <= expected.items()
            fault(f"stage `{stage}`", "SIGKILL at a random moment", "run again: the same bytes as undisturbed")
        left -= IN_A_ROW
        assert succeeds(folder, stage)
        assert digests(folder) == expected and not hidden(folder)


@pytest.mark.parametrize(
    "unfinished", [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in LONG], indirect=True
)
def test_a_disk_that_is_full(unfinished: tuple[str, Path], fault: Callable[[str, str, str], None]) -> None:
    """No file may grow beyond a few kilobytes, as on a disk with no more room."""
    stage, folder = unfinished
    forget(folder, stage)
    before = lasting(folder)
    limit = (2_000, 2_000)
    process = start(folder, stage, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    _, said = process.communicate()
    assert process.returncode == 1 and "Traceback" not in said, said
    last = [line for line in said.splitlines() if line.startswith("error: ")]
    assert last and "cannot be written" in last[-1], said
    assert lasting(folder) == before and not [path for path in hidden(folder) if "partial" in path.name]
    fault(f"stage `{stage}`", "disk that is full", "one line says so; the old output is untouched")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The `data` of a project on a file system of 64 MB in memory."""
    data = tmp_path / "work/data"
    data.mkdir(parents=True)
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(data)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("may not mount a file system")
    yield data
    subprocess.run(["umount", "--lazy", str(data)], check=True)


@pytest.mark.parametrize("stage", [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in LONG])
def test_a_small_file_system_that_fills_up(
    stage: str, project: Path, small_disk: Path, fault: Callable[[str, str, str], None]
) -> None:
    folder = make_project(small_disk.parent, toy_params())
    shutil.copytree(project / "data", small_disk, dirs_exist_ok=True)
    expected = digests(folder)
    forget(folder, stage)
    before, filler = lasting(folder), small_disk / ".filler"
    filler.write_bytes(b"0" * (shutil.disk_usage(small_disk).free - ROOM))
    process = start(folder, stage)
    _, said = process.communicate()
    assert process.returncode == 1 and "Traceback" not in said, said
    assert "cannot be written" in said.strip().splitlines()[-1], said
    filler.unlink()
    assert {name: own for name, own in lasting(folder).items() if name in before} == before
    assert start(folder, stage).wait() == 0
    assert digests(folder) == expected and not hidden(folder)
    fault(f"stage `{stage}`", "file system that fills up", "one line says so; run again with room: the same bytes")


@pytest.mark.parametrize("unfinished", ["sample"], indirect=True)
def test_two_runs_of_a_stage_at_once(unfinished: tuple[str, Path], fault: Callable[[str, str, str], None]) -> None:
    stage, folder = unfinished
    before = digests(folder)
    lock = FileLock(folder / f"data/.{stage}.lock")
    with lock:
        process = start(folder, stage)
        _, said = process.communicate()
        assert process.returncode == 1 and "another run of it is at work" in said
    assert digests(folder) | {} == before
    assert start(folder, stage).wait() == 0 and digests(folder) == before and not hidden(folder)
    fault(f"stage `{stage}`", "started while it runs", "the second says so and stops")
