"""Check what `dvc repro` left, without a line of the project's code: tarfile, hashes, pyarrow, datasets."""

import hashlib
import io
import json
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset as wds
from datasets import load_dataset
from PIL import Image

root = Path(sys.argv[1])
METRICS = {"auroc", "fpr95", "fpr95_id_positive", "aupr_in", "aupr_out"}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_dataset(folder: Path) -> None:
    about = json.loads((folder / "dataset.json").read_text())
    index = pq.read_table(folder / "index.parquet").to_pylist()
    rejected = pq.read_table(folder / "rejected.parquet").to_pylist()
    members: dict[str, set[str]] = {}
    for shard in about["shards"]:
        assert digest(folder / shard["name"]) == shard["sha256"], shard
        with tarfile.open(folder / shard["name"]) as tar:
            for member in tar:
                key, extension = member.name.split(".", 1)
                content = tar.extractfile(member).read()
                assert key.isdigit() and member.mtime == 0
                members.setdefault(key, set()).add(extension)
                if extension == "png":
                    image = Image.open(io.BytesIO(content))
                    assert list(image.size) == about["id"]["shape"][1:]
                    assert about["fingerprint"] in image.info["XML:com.adobe.xmp"]
                    assert "digitalsourcetype/" in image.info["XML:com.adobe.xmp"]  # the demo has no image as found
                elif extension == "latent.npy":
                    latent = np.load(io.BytesIO(content), allow_pickle=False)
                    assert latent.dtype == np.float16 and np.isfinite(latent).all()
                else:
                    json.loads(content)
    assert all(found == {"png", "latent.npy", "json"} for found in members.values())
    assert [row["key"] for row in index] == sorted(members)
    packed = Counter(row["method"] for row in index)
    assert packed == {name: counts["packed"] for name, counts in about["methods"].items()}
    assert len(set(packed.values())) == 1, f"unequal counts: {packed}"
    for name, counts in about["methods"].items():
        assert Counter(row["reason"] for row in rejected if row["method"] == name) == counts["rejected"]
    rows = Counter((row["kind"], row["method"], row.get("reference")) for row in about["audit"])
    kinds = (("separation", "decoded"), ("separation", "id"), ("diversity", None))
    expected = {(kind, name, reference) for name in about["methods"] for kind, reference in kinds}
    assert rows == dict.fromkeys({("separation", None, "id"), *expected}, 1), rows
    urls = [str(folder / shard["name"]) for shard in about["shards"]]
    assert sum(1 for _ in wds.WebDataset(urls, shardshuffle=False).decode("pil")) == len(index)
    with tempfile.TemporaryDirectory() as cache:
        assert len(load_dataset("webdataset", data_files=urls, split="train", cache_dir=cache)) == len(index)
    for file in json.loads((folder / "croissant.json").read_text())["distribution"]:
        assert "contentUrl" not in file or digest(folder / file["contentUrl"]) == file["sha256"], file
    assert (folder / "README.md").read_text().startswith("---\n")
    assert Image.open(folder / "contact-sheet.png").width > 500
    print(f"{folder}: {dict(packed)}, rejected {len(rejected)}, {len(urls)} shards")


def check_images(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    seen: dict[bytes, str] = {}
    for name, about in manifest["sets"].items():
        assert digest(folder / f"{name}.parquet") == about["sha256"], name
        table = pq.read_table(folder / f"{name}.parquet")
        assert table.num_rows == about["count"] > 0
        for image in table.column("image").to_pylist():
            if about["role"] == "id":
                assert seen.setdefault(image["bytes"], name) == name, f"{image['path']} in two splits"
    assert {about["role"] for about in manifest["sets"].values()} == {"id", "near", "far", "val-near", "val-far"}
    print(f"{folder}: {len(manifest['sets'])} sets, {len(seen)} different ID images")


def check_latents(folder: Path) -> None:
    for path in sorted(folder.glob("*.arrow")):
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        assert table.num_rows > 0 and {"key", "label", "mean", "std"} <= set(table.column_names)
        print(f"{path}: {table.num_rows} rows")


def check_models(folder: Path) -> None:
    pickles = [path for path in folder.rglob("*") if path.suffix in {".bin", ".pt", ".pth", ".pkl", ".ckpt"}]
    assert not pickles, pickles
    models = sorted(path.parent for path in folder.rglob("detector.json"))
    for model in models:
        assert {"config.json", "model.safetensors", "detector.json", "detector.safetensors"} <= {
            path.name for path in model.iterdir()
        }
    print(f"{folder}: {len(models)} classifiers, no pickle")


def check_metrics(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    for recipe, detectors in summary.items():
        for entry in detectors.values():
            for block in (entry["near"], entry["far"], *entry["sets"].values()):
                assert set(block) == METRICS, recipe
                assert all(set(value) == {"mean", "std"} for value in block.values())
    headline = json.loads((folder / "headline.json").read_text())
    assert list(headline) == list(summary)
    for recipe, found in headline.items():
        for group in ("near", "far"):
            assert found["own"][f"{group}_auroc"] == round(summary[recipe]["own"][group]["auroc"]["mean"], 2), recipe
    print(f"{folder}: {len(summary)} recipes x {len(next(iter(summary.values())))} detectors")


for name in ("outliers", "controls"):
    check_dataset(root / "data" / name)
check_images(root / "data/images")
check_latents(root / "data/latents")
check_models(root / "data/models")
check_metrics(root / "metrics")
page = (root / "report/index.html").read_text()
assert "<script" not in page and 'src="http' not in page and page.count("data:image/png") >= 5
print("report/index.html: self-contained")
