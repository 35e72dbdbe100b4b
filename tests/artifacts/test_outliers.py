"""The outlier dataset as a stranger reads it: tarfile, webdataset, Hugging Face datasets, pyarrow."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import webdataset as wds
from datasets import load_dataset
from PIL import Image

from pipeline.artifacts import outliers
from pipeline.artifacts.outliers import Sample, encode_sample
from pipeline.artifacts.selection import Selection
from pipeline.runtime.errors import UserError
from pipeline.training.loaders import whole
from tests.conftest import CONTROLS, OUTLIERS

COUNTS = {"outliers": 300, "controls": 540}  # five and nine methods of 60 images


@pytest.fixture(params=["outliers", "controls"])
def folder(project: Path, request: pytest.FixtureRequest) -> Path:
    return project / "data" / request.param


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.tar"))


def test_tarfile_reads_every_sample(folder: Path) -> None:
    index = pq.read_table(folder / "index.parquet").to_pylist()
    members: dict[str, dict[str, bytes]] = {}
    for shard in shards(folder):
        with tarfile.open(shard) as tar:
            for info in tar:
                assert info.mtime == 0 and info.isfile() and not info.pax_headers
                key, extension = info.name.split(".", 1)
                file = tar.extractfile(info)
                assert file is not None
                members.setdefault(key, {"shard": shard.name.encode()})[extension] = file.read()
    assert [row["key"] for row in index] == sorted(members)
    for row in index:
        sample = members[row["key"]]
        assert set(sample) == {"shard", "json", "latent.npy", "png"}
        assert sample["shard"].decode() == row["shard"]
        fields = json.loads(sample["json"])
        assert {name: row[name] for name in fields} == pytest.approx(fields)
        latent = np.load(io.BytesIO(sample["latent.npy"]), allow_pickle=False)
        assert latent.dtype == np.float16 and latent.shape == (4, 8, 8)
        assert Image.open(io.BytesIO(sample["png"])).size == (16, 16)


def test_webdataset_alone_reads_every_sample(folder: Path) -> None:
    urls = list(map(str, shards(folder)))
    samples = list(wds.WebDataset(urls, shardshuffle=False).decode("pil").to_tuple("png", "latent.npy", "json"))
    assert len(samples) == COUNTS[folder.name]
    assert all(image.size == (16, 16) and latent.shape == (4, 8, 8) for image, latent, _ in samples)


def test_hugging_face_datasets_reads_every_sample(folder: Path, tmp_path: Path) -> None:
    files = list(map(str, shards(folder)))
    data = load_dataset("webdataset", data_files=files, split="train", cache_dir=str(tmp_path))
    assert len(data) == COUNTS[folder.name]
    assert {"png", "latent.npy", "json"} <= set(data.column_names)
    assert {row["json"]["method"] for row in data} == set(pq.read_table(folder / "index.parquet")["method"].to_pylist())


def test_dataset_json_counts_and_checksums_hold(folder: Path) -> None:
    about = json.loads((folder / "dataset.json").read_text())
    index = pq.read_table(folder / "index.parquet").to_pylist()
    rejected = pq.read_table(folder / "rejected.parquet").to_pylist()
    assert about["schema_version"] == 2
    for shard in about["shards"]:
        assert hashlib.sha256((folder / shard["name"]).read_bytes()).hexdigest() == shard["sha256"]
    assert sum(shard["samples"] for shard in about["shards"]) == len(index)
    assert Counter(row["method"] for row in index) == {
        name: counts["packed"] for name, counts in about["methods"].items()
    }
    for name, counts in about["methods"].items():
        reasons = Counter(row["reason"] for row in rejected if row["method"] == name)
        assert reasons == counts["rejected"]
        assert counts["packed"] + sum(reasons.values()) == counts["candidates"]


def test_labels_tell_outliers_from_id_controls(project: Path) -> None:
    labels = {
        row["method"]: row["label"] >= 0
        for name in ("outliers", "controls")
        for row in pq.read_table(project / f"data/{name}/index.parquet").to_pylist()
    }
    id_images = dict.fromkeys(("synthetic-id", "decoded-id"), True)
    assert labels == dict.fromkeys([*OUTLIERS, *CONTROLS], False) | id_images


def test_card_is_a_hugging_face_card(folder: Path) -> None:
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(folder / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.size_categories == ["n<1K"]
    assert card.data.source_datasets == ["extended|other-digits"]
    assert json.loads((folder / "dataset.json").read_text())["fingerprint"] in card.text
    assert (folder / "contact-sheet.png").stat().st_size > 1000


@pytest.mark.parametrize("streaming", [False, True])
def test_the_card_makes_every_method_loadable_by_its_name(folder: Path, tmp_path: Path, streaming: bool) -> None:
    methods = json.loads((folder / "dataset.json").read_text())["methods"]
    for name in ("default", *methods):
        data = load_dataset(str(folder), name, split="train", streaming=streaming, cache_dir=str(tmp_path))
        found = Counter(row["json"]["method"] for row in data)
        assert found == (dict.fromkeys(methods, 60) if name == "default" else {name: 60})
    labels = load_dataset(str(folder), split="train", streaming=streaming, cache_dir=str(tmp_path)).features["json"]
    assert labels["parent_a"].names == json.loads((folder / "dataset.json").read_text())["id"]["classes"]


READ_CROISSANT = """
import json, sys, mlcroissant
data = mlcroissant.Dataset(sys.argv[1])
assert data.metadata.data_use_cases and data.metadata.data_limitations and data.metadata.data_biases
found = {"rejected": sum(1 for _ in data.records("rejected")), "samples": []}
for record in data.records("samples"):
    row = {name.removeprefix("index/"): value for name, value in record.items()}
    row["image"] = row["image"].size
    found["samples"].append({name: own.decode() if isinstance(own, bytes) else own for name, own in row.items()})
print(json.dumps(found))
"""


def test_croissant_iterates_images_with_their_rows(folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", READ_CROISSANT, str(folder / "croissant.json")],
        env=os.environ | {"CROISSANT_CACHE": str(tmp_path)},  # where it keeps shards by their name, of whatever set
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    index = pq.read_table(folder / "index.parquet").to_pylist()
    assert sorted(found["samples"], key=lambda row: row["key"]) == [row | {"image": [16, 16]} for row in index]
    assert found["rejected"] == len(pq.read_table(folder / "rejected.parquet"))


def samples(n: int) -> list[Sample]:
    fields = dict.fromkeys(("parent_a", "parent_b", "candidate", "seed"), 0) | {
        "label": -1,
        "source": "",
        "method": "noise",
    }
    fields |= dict.fromkeys(("strength", "distance", "confidence"), 0.5)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (n, 1, 8, 8), np.uint8)
    return [encode_sample(pixels, random.normal(size=(4, 2, 2)), fields, "a mark") for pixels in images]


def packed(folder: Path) -> Path:
    folder.mkdir()
    about = {
        "schema_version": 2,
        "shards": outliers.pack(folder, "outliers", {"noise": 5}, lambda _, i: samples(5)[i], 2),
        "methods": {"noise": {"packed": 5, "candidates": 5, "rejected": {}}},
        "id": {"classes": ["a", "b"], "count": 1, "shape": [1, 8, 8]},
    }
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder


def test_equal_samples_give_equal_bytes_and_come_back(tmp_path: Path) -> None:
    first, second = packed(tmp_path / "a"), packed(tmp_path / "b")
    names = [path.name for path in sorted(first.iterdir())]
    assert names == ["dataset.json", "index.parquet", *(f"outliers-noise-{i:06d}.tar" for i in range(3))]
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
    pixels, labels = whole(Selection([first], {"noise": 5}))
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), np.uint8)
    assert torch.equal(pixels, torch.from_numpy(images))
    assert labels.tolist() == [-1] * 5


@pytest.mark.parametrize(
    "name", ["../outliers-000000.tar", "pipe:cat x", "/etc/passwd", "http://x/outliers-000000.tar"]
)
def test_a_shard_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    folder = packed(tmp_path / "set")
    about = json.loads((folder / "dataset.json").read_text())
    about["shards"][0]["name"] = name
    (folder / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="shard name"):
        whole(Selection([folder], {"noise": 5}))


def test_another_schema_and_a_missing_set_are_refused(tmp_path: Path) -> None:
    folder = packed(tmp_path / "set")
    (folder / "dataset.json").write_text('{"schema_version": 99}')
    with pytest.raises(UserError, match="schema 99, expected 2"):
        outliers.verify(folder)
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="not found"):
        outliers.verify(folder)


@pytest.mark.parametrize(
    ("shards", "words"),
    [
        (None, "shards: Input should be a valid list"),
        ([{"name": "outliers-000000.tar", "samples": 2}], r"shards\.0\.sha256: Field required"),
        ([{"name": 1, "sha256": "", "samples": 2}], r"shards\.0\.name"),
    ],
)
def test_a_damaged_dataset_json_is_named(tmp_path: Path, shards: object, words: str) -> None:
    folder = packed(tmp_path / "set")
    (folder / "dataset.json").write_text(json.dumps({"schema_version": 2, "shards": shards}))
    with pytest.raises(UserError, match=words):
        outliers.verify(folder)


@pytest.mark.parametrize(
    "member", [("json", b"[]"), ("json", b"{"), ("json", b'{"method": "noise"}'), ("png", None), ("png", b"no image")]
)
def test_a_sample_of_another_form_is_named(tmp_path: Path, member: tuple[str, bytes | None]) -> None:
    folder = packed(tmp_path / "set")
    with tarfile.open(folder / "outliers-noise-000000.tar", "w") as tar:
        complete = {"json": json.dumps(samples(1)[0].fields).encode(), "latent.npy": b"", "png": b""}
        members = complete | dict([member])
        for extension, content in members.items():
            if content is not None:
                info = tarfile.TarInfo(f"00000000.{extension}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    about = json.loads((folder / "dataset.json").read_text())
    about["shards"][0]["sha256"] = hashlib.sha256((folder / "outliers-noise-000000.tar").read_bytes()).hexdigest()
    (folder / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="00000000"):
        whole(Selection([folder], {"noise": 5}))
