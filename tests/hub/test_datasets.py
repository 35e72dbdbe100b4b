"""Checking, merging, uploading and downloading outlier datasets, the Hub replaced by a folder."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.hub import datasets as sharing
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import sha256
from tests.conftest import CONTROLS, OUTLIERS

COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture
def folder(project: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(project / "data/outliers", tmp_path / "outliers"))


def edit(folder: Path, **changes: Any) -> None:
    about = json.loads((folder / "dataset.json").read_text()) | changes
    (folder / "dataset.json").write_text(json.dumps(about))


def test_a_sound_dataset_holds(folder: Path) -> None:
    done = CliRunner().invoke(app, ["outliers", "verify", str(folder)])
    assert done.exit_code == 0 and "300 samples in 10 shards hold" in done.stdout
    shown = CliRunner().invoke(app, ["outliers", "show", str(folder)], env={"COLUMNS": "120"})
    assert shown.exit_code == 0 and "boundary" in shown.stdout and "cc-by-4.0" in shown.stdout


def test_what_does_not_hold_is_named(folder: Path) -> None:
    index = pq.read_table(folder / "index.parquet")
    pq.write_table(index.slice(1), folder / "index.parquet")
    with pytest.raises(UserError, match="and the shards disagree at sample outliers-boundary-000000.tar: 00000000"):
        sharing.verify(folder)
    pq.write_table(index.slice(0, 299), folder / "index.parquet")
    with pytest.raises(UserError, match=f"disagree at sample {index['shard'][299]}: 00000299"):
        sharing.verify(folder)
    pq.write_table(index, folder / "index.parquet")
    methods = json.loads((folder / "dataset.json").read_text())["methods"]
    methods["mixup"]["packed"] += 1
    edit(folder, methods=methods)
    with pytest.raises(UserError, match="index.parquet has 60 rows of mixup, dataset.json says 61"):
        sharing.verify(folder)


def test_images_of_another_shape_are_named(folder: Path) -> None:
    about = json.loads((folder / "dataset.json").read_text())
    edit(folder, id=about["id"] | {"shape": [1, 8, 8]})
    with pytest.raises(UserError, match=r"00000000.png: shape \(1, 16, 16\), expected \(1, 8, 8\)"):
        sharing.verify(folder)


def test_merged_datasets_hold_every_sample_of_their_parts(project: Path, tmp_path: Path) -> None:
    parts = [project / "data/outliers", project / "data/controls"]
    sharing.merge(parts, tmp_path / "all", per_shard=70)
    about = sharing.verify(tmp_path / "all")
    assert {method: counts["packed"] for method, counts in about["methods"].items()} == dict.fromkeys(
        [*OUTLIERS, *CONTROLS], 60
    )
    own = [row for part in parts for row in json.loads((part / "dataset.json").read_text())["audit"]]
    decoder = {"kind": "separation", "method": None, "reference": "id"}
    assert [row for row in own if decoder.items() <= row.items()] == [own[0], own[0]]  # said by both, kept once
    assert about["audit"] == own[:1] + [row for row in own if row != own[0]]
    assert [shard["samples"] for shard in about["shards"]] == [60] * 14
    from pipeline.artifacts import outliers

    def images(folder: Path) -> list[bytes]:
        return [sample.image for _, sample in outliers.read(folder, outliers.verify(folder))]

    assert images(tmp_path / "all") == [image for part in parts for image in images(part)]
    again = sharing.merge(parts, tmp_path / "again", per_shard=70)
    assert again == about
    card = (tmp_path / "all/README.md").read_text()
    for linked in re.findall(r"!\[.*?\]\((.*?)\)", card):
        assert (tmp_path / "all" / linked).is_file()


def test_datasets_of_no_method_merge(project: Path, tmp_path: Path) -> None:
    from pipeline.artifacts import packing

    whole = json.loads((project / "data/outliers/dataset.json").read_text())
    about = {key: value for key, value in whole.items() if key not in ("methods", "shards")}
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        packing.pack(folder, "outliers", [], 10, 5, "its fingerprint").document(
            folder, about | {"audit": [], "quality": {}}
        )
    assert sharing.merge([tmp_path / "one", tmp_path / "other"], tmp_path / "all", per_shard=5)["methods"] == {}
    assert sharing.verify(tmp_path / "all")["shards"] == []


def test_sets_of_other_classes_do_not_merge(project: Path, folder: Path, tmp_path: Path) -> None:
    about = json.loads((folder / "dataset.json").read_text())
    edit(folder, id=about["id"] | {"classes": [f"no {name}" for name in about["id"]["classes"]]})
    with pytest.raises(UserError, match="ID classes .* merge like with like"):
        sharing.merge([project / "data/outliers", folder], tmp_path / "all", per_shard=70)
    assert not (tmp_path / "all").exists()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hub that is a folder: upload and download copy what the patterns allow."""
    store = tmp_path / "hub"

    def copy(source: Path, target: Path, patterns: list[str]) -> None:
        target.mkdir(parents=True, exist_ok=True)
        for path in {path for pattern in patterns for path in Path(source).glob(pattern)}:
            shutil.copy(path, target / path.name)

    class Api:
        def create_repo(self, repository: str, *, repo_type: str, exist_ok: bool) -> None:
            assert (repository, repo_type, exist_ok) == ("me/outliers", "dataset", True)

        def upload_folder(self, *, folder_path: Path, allow_patterns: list[str], **_: Any) -> SimpleNamespace:
            copy(folder_path, store, allow_patterns)
            return SimpleNamespace(oid=COMMIT)

    def download(repository: str, *, revision: str, local_dir: Path, allow_patterns: list[str], **_: Any) -> None:
        assert revision == COMMIT
        copy(store, local_dir, allow_patterns)

    monkeypatch.setattr("pipeline.hub.upload.HfApi", Api)
    monkeypatch.setattr(sharing, "snapshot_download", download)
    return store


def test_what_is_pushed_can_be_pulled(folder: Path, hub: Path, tmp_path: Path) -> None:
    (folder / "private.txt").write_text("not part of the dataset")
    pushed = CliRunner().invoke(app, ["outliers", "push", str(folder), "me/outliers"])
    assert pushed.exit_code == 0 and COMMIT in pushed.stdout
    assert not (hub / "private.txt").exists()
    target = tmp_path / "pulled"
    pulled = CliRunner().invoke(app, ["outliers", "pull", "me/outliers", "--revision", COMMIT, "--to", str(target)])
    assert pulled.exit_code == 0
    assert sha256(target / "index.parquet") == sha256(folder / "index.parquet")


def test_a_damaged_download_leaves_nothing(folder: Path, hub: Path, tmp_path: Path) -> None:
    sharing.push(folder, "me/outliers")
    (hub / "outliers-boundary-000001.tar").write_bytes(b"something else")
    with pytest.raises(UserError, match="sha256"):
        sharing.pull("me/outliers", COMMIT, tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists() and not (tmp_path / ".pulled.partial").exists()
    with pytest.raises(UserError, match="revision 'main', expected the 40-digit commit"):
        sharing.pull("me/outliers", "main", tmp_path / "pulled")
