"""Datasets travel for real: over HTTP from a server on the loopback address, and by a DVC remote that is a folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import commit, run
from tests.hub.server import hub
from tests.hub.test_datasets import COMMIT


def pull(address: str, target: Path, commit: str = COMMIT) -> "subprocess.CompletedProcess[str]":
    """`penumbra outliers pull` in a process of its own: the address of the Hub is read when it starts."""
    command = [sys.executable, "-m", "pipeline", "outliers", "pull", "me/outliers", "--revision", commit]
    place = {"HF_ENDPOINT": address, "HF_HOME": str(target.parent / "cache")}
    return subprocess.run(
        [*command, "--to", str(target)], env=os.environ | place, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def published(project: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(project / "data/outliers", tmp_path / "published"))


def test_a_dataset_comes_over_http_and_is_checked(published: Path, tmp_path: Path) -> None:
    (published / "private.txt").write_text("not part of the dataset")
    target = tmp_path / "pulled"
    with hub(published, COMMIT) as address:
        done = pull(address, target)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = {path.name: path.read_bytes() for path in published.iterdir() if path.name != "private.txt"}
    assert {path.name: path.read_bytes() for path in target.iterdir()} == expected


def test_damage_on_the_way_and_a_commit_that_is_not_there_leave_nothing(published: Path, tmp_path: Path) -> None:
    shard = next(published.glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:-512] + b"x" * 512)
    with hub(published, COMMIT) as address:
        damaged = pull(address, tmp_path / "pulled")
        missing = pull(address, tmp_path / "pulled", "f" * 40)
    assert damaged.returncode == 1 and "sha256" in damaged.stderr and shard.name in damaged.stderr
    assert missing.returncode == 1 and "me/outliers: cannot be downloaded" in missing.stderr
    assert "Traceback" not in damaged.stderr + missing.stderr
    assert not (tmp_path / "pulled").exists()


def test_dvc_gives_the_outliers_by_their_name(repository: Path, tmp_path: Path) -> None:
    """`dvc push` to a remote, then `dvc artifacts get` by somebody who has nothing but the repository's address."""
    sent = [["dvc", "remote", "add", "--default", "shelf", str(tmp_path / "remote")], ["dvc", "push", "shards"]]
    assert all(run(command, repository).returncode == 0 for command in sent)
    commit(repository, "where the outliers are")
    released = run(["gto", "register", "outliers", "--version", "v1.0.0"], repository)
    assert released.returncode == 0, released.stdout + released.stderr
    shutil.rmtree(repository / ".dvc/cache")
    consumer = tmp_path / "consumer"
    consumer.mkdir()
    for name, options in (("latest", []), ("pinned", ["--rev", "v1.0.0"])):
        got = run(["dvc", "artifacts", "get", f"file://{repository}", "outliers", "--out", name, *options], consumer)
        assert got.returncode == 0, got.stdout + got.stderr
        sent_files = {path.name: path.read_bytes() for path in (repository / "data/outliers").iterdir()}
        assert {path.name: path.read_bytes() for path in (consumer / name).iterdir()} == sent_files
    verified = run([sys.executable, "-m", "pipeline", "outliers", "verify", str(consumer / "latest")], repository)
    assert verified.returncode == 0 and "hold" in verified.stdout
