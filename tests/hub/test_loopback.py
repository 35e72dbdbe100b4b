"""Datasets travel for real: over HTTP from a server on the loopback address, and by a DVC remote that is a folder."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import run
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


def test_dvc_gives_the_outliers_by_their_name(project: Path, tmp_path: Path) -> None:
    """`dvc push` to a remote, then `dvc artifacts get` by somebody who has nothing but the repository's address."""
    source, remote = Path(shutil.copytree(project, tmp_path / "repository", symlinks=True)), tmp_path / "remote"
    for command in (
        ["git", "init", "--quiet"],
        ["git", "config", "user.name", "somebody"],
        ["git", "config", "user.email", "somebody@example.org"],
        ["dvc", "config", "core.no_scm", "false"],
        ["dvc", "remote", "add", "--default", "shelf", str(remote)],
        ["dvc", "push", "--quiet", "shards"],
        ["git", "add", "--all"],
        ["git", "commit", "--quiet", "--message", "outliers"],
        ["gto", "register", "outliers", "--version", "v1.0.0"],
    ):
        done = run(command, source)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    consumer = tmp_path / "consumer"
    consumer.mkdir()
    for name, options in (("latest", []), ("pinned", ["--rev", "v1.0.0"])):
        got = run(["dvc", "artifacts", "get", f"file://{source}", "outliers", "--out", name, *options], consumer)
        assert got.returncode == 0, got.stdout + got.stderr
        sums = {path.name: path.read_bytes() for path in (consumer / name).iterdir()}
        assert sums == {path.name: path.read_bytes() for path in (project / "data/outliers").iterdir()}
    verified = run([sys.executable, "-m", "pipeline", "outliers", "verify", str(consumer / "latest")], project)
    assert verified.returncode == 0 and "hold" in verified.stdout
    assert json.loads((consumer / "latest/dataset.json").read_text())["name"] == "outliers"
