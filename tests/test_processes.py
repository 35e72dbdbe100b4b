"""Stages run by two processes: the same bytes as by one, and the same training at the same batch."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from pipeline.__main__ import LAUNCHER, SHARED
from pipeline.runtime import processes
from tests.conftest import make_project, toy_params
from tests.test_kills import OUTPUTS, hidden, remove
from tests.test_pipeline import digests

pytestmark = pytest.mark.timeout(900)
# accelerate's word for several processes on a machine, with or without GPUs
TWO = "accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"
FEW = ["encode", "sample", "shards", "infer"]
SAME_BYTES = [stage for stage in OUTPUTS if stage in SHARED and stage not in ("teacher", "diffusion")]


def environment(**changes: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"} | changes


def launch(folder: Path, stage: str, launcher: str = TWO) -> subprocess.CompletedProcess[str]:
    command, own = [sys.executable, "-m", "pipeline", *stage.split()], environment(**{LAUNCHER: launcher})
    return subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, timeout=600)


def start_two(folder: Path, stage: str) -> None:
    """Two processes of a stage, as a launcher starts them, without the seconds that it takes itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    together = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "-m", "pipeline", stage]
    started = [
        subprocess.Popen(
            command, cwd=folder, env=environment(**together, RANK=rank, LOCAL_RANK=rank), stderr=subprocess.PIPE
        )
        for rank in ("0", "1")
    ]
    for process in started:
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 0, errors


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    """A copy of the finished project."""
    folder = make_project(tmp_path / "work", toy_params())
    shutil.copytree(project / "data", folder / "data", dirs_exist_ok=True)
    return folder


def test_the_launcher_says_who_is_who(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes.is_first() and processes.count() == 1 and list(processes.share(range(7))) == list(range(7))
    monkeypatch.setenv("WORLD_SIZE", "3")
    shares = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        assert processes.count() == 3 and processes.is_first() == (rank == 0)
        shares.append(list(processes.share(range(7))))
    assert shares == [[0, 3, 6], [1, 4], [2, 5]]


@pytest.mark.parametrize("stages", [FEW, pytest.param(SAME_BYTES, marks=pytest.mark.slow)], ids=["few", "all"])
def test_two_processes_write_the_bytes_of_one(project: Path, copy: Path, stages: list[str]) -> None:
    """One thread each, as the project itself was made: how a sum is cut into threads shows in its last bits."""
    for stage in stages:
        remove(copy, stage)
        start_two(copy, stage)
    assert not hidden(copy)
    assert digests(copy) == {name: own for name, own in digests(project).items() if name.startswith("data/")}


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("stage", ["encode", "train"])
def test_a_process_that_dies_takes_the_others_with_it(
    copy: Path, stage: str, fault: Callable[[str, str, str], None]
) -> None:
    """And another run of both ends as one that was not disturbed."""
    remove(copy, stage)
    assert launch(copy, stage).returncode == 0
    expected = digests(copy)
    remove(copy, stage)
    process = subprocess.Popen([*TWO.split(), "-m", "pipeline", *stage.split()], cwd=copy, env=environment())
    while len(workers := psutil.Process(process.pid).children(recursive=True)) < 2:
        time.sleep(0.1)
    time.sleep(6)  # past the imports
    workers[-1].kill()
    assert process.wait(timeout=120) != 0
    assert launch(copy, stage).returncode == 0
    assert digests(copy) == expected and not hidden(copy)
    fault(f"stage `{stage}`, two processes", "SIGKILL of one", "the other ends too; run again: the same bytes")


def curve(folder: Path, term: str) -> np.ndarray:
    return pd.read_csv(folder / f"data/curves/penumbra/s0/plots/metrics/{term}.tsv", sep="\t")[term].to_numpy()


def test_training_by_two_processes_is_that_of_one(copy: Path) -> None:
    """A network with layer normalisation, which sees each image alone: equal but for the order of sums."""
    settings = toy_params()
    settings["train"] |= {"network": "timm:test_efficientnet_ln", "steps": 60, "seeds": [0], "learning_rate": 0.02}
    (copy / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    curves = []
    for launcher in ("", TWO):
        done = launch(copy, "train", launcher)
        assert done.returncode == 0, done.stdout + done.stderr
        curves.append(
            {
                term: curve(copy, term)
                for term in ("cross_entropy", "outlier_exposure", "logit_distillation", "accuracy")
            }
        )
    alone, both = curves
    assert len(alone["outlier_exposure"]) == 4
    for term, values in alone.items():
        np.testing.assert_allclose(both[term], values, rtol=1e-3, err_msg=term)
    assert alone["cross_entropy"][-1] < alone["cross_entropy"][0]


def test_a_batch_that_does_not_divide_is_refused(copy: Path) -> None:
    settings = toy_params()
    settings["train"] |= {"batch": 63}
    (copy / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    done = launch(copy, "train")
    assert done.returncode != 0
    assert "error: params.yaml: batch or auxiliary_batch is 63, expected a multiple of the 2 processes" in done.stderr
    assert not hidden(copy)


def test_stages_of_one_process_are_refused(copy: Path) -> None:
    command = [*TWO.split(), "-m", "pipeline", "score"]
    done = subprocess.run(command, cwd=copy, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode != 0 and "error: score: started as 2 processes, but runs as one" in done.stderr


def test_a_launcher_that_is_not_there(copy: Path) -> None:
    done = launch(copy, "encode", "no-such-launcher --processes 2")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {LAUNCHER} is 'no-such-launcher --processes 2', which cannot be started")
