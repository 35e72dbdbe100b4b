"""Scoring cached outputs: `pytest tests/benchmarks/test_scoring.py --benchmark-only -s`.

Against running the network again, and as the rows grow; seconds are of the whole command `penumbra score --outputs`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pipeline.artifacts import outputs
from pipeline.artifacts.outputs import Head, Outputs
from pipeline.classifier.networks import Classifier, predict
from tests.conftest import ROOT

CLASSES, WIDTH, TRAIN = 10, 512, 50_000
TEN = ("msp", "max-logit", "energy", "gen", "mahalanobis", "rmd", "vim", "max-cosine", "react", "ash-b")
WITH_KNN = (*TEN[:-1], "knn")


def cache(folder: Path, known: int, sets: dict[str, int]) -> Path:
    """Outputs as a ResNet-18 of CIFAR-10 leaves them: 512 features that are not negative, 10 logits."""
    random = np.random.default_rng(0)
    weight = random.normal(0, 0.1, (CLASSES, WIDTH)).astype(np.float32)

    def write(name: str, path: Path, count: int, pull: float) -> None:
        labels = random.integers(CLASSES, size=count)
        features = random.standard_normal((count, WIDTH), dtype=np.float32) + np.float32(pull) * weight[labels]
        features = torch.from_numpy(np.maximum(features, 0))
        logits = features @ torch.from_numpy(weight).T
        known_labels = torch.from_numpy(labels) if pull > 5 else torch.full((count,), -1)
        outputs.write(path, [Outputs([f"{name}{i}" for i in range(count)], known_labels, logits, features)])

    for name, count in {"train": TRAIN, "val": 1000, "test": known}.items():
        write(name, folder / f"{name}.parquet", count, 10.0)
    for name, count in sets.items():
        write(name, folder / name.split("-")[0] / f"{name}.parquet", count, 3.0)
    write("hill", folder / "val-near/hill.parquet", 1000, 3.0)
    outputs.write_head(folder / "head.parquet", Head(torch.from_numpy(weight), torch.zeros(CLASSES)))
    return folder


def score(folder: Path, workplace: Path, detectors: tuple[str, ...]) -> float:
    """Peak GiB of `penumbra score --outputs`, in a process of its own."""
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings["score"]["detectors"] |= {"knn": {"k": 50}, "vim": {"d": 256}}
    (workplace / "params.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "pipeline", "score", "--outputs", str(folder), "--detectors", ",".join(detectors)]
    process = subprocess.Popen(command, cwd=workplace, env=os.environ | {"PYTHONPATH": str(ROOT)})
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0
    return used.ru_maxrss / 2**20


@pytest.fixture(scope="module")
def openood_sized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10,000 ID and 60,000 OOD test images, as many sets as OpenOOD's CIFAR-10."""
    sets = {"near-a": 9000, "near-b": 8000, "far-a": 13_000, "far-b": 12_000, "far-c": 6000, "far-d": 12_000}
    return cache(tmp_path_factory.mktemp("cache") / "model", 10_000, sets)


@pytest.mark.parametrize("way", ["10 detectors", "10 detectors, k-NN among them", "the network again"])
def test_70_000_images(benchmark: Any, openood_sized: Path, tmp_path: Path, way: str) -> None:
    """A changed detector: `score` from the cache, and what it would take to run ResNet-18 on all images again."""
    if way == "the network again":
        model = Classifier("resnet-18", {"kind": "linear"}, list("abcdefghij"), 32, 3, [0.5] * 3, [0.25] * 3).eval()
        pixels = torch.randint(0, 256, (1000, 3, 32, 32), dtype=torch.uint8)
        benchmark.pedantic(lambda: predict(model, pixels, 500), rounds=2, warmup_rounds=1)
        images = TRAIN + 72_000
        benchmark.extra_info[f"seconds for {images} images"] = round(benchmark.stats.stats.min * images / len(pixels))
    else:
        own = WITH_KNN if "k-NN" in way else TEN
        benchmark.pedantic(lambda: score(openood_sized, tmp_path, own), rounds=1)


@pytest.mark.parametrize("rows", [10_000, 100_000, 1_000_000])
def test_growth(benchmark: Any, tmp_path: Path, rows: int) -> None:
    folder = cache(tmp_path / "model", rows // 10, {"near-a": rows * 3 // 10, "far-a": rows * 6 // 10})
    peaks: list[float] = []
    benchmark.pedantic(lambda: peaks.append(score(folder, tmp_path, TEN)), rounds=1)
    benchmark.extra_info["peak GiB"] = round(peaks[0], 2)
    shutil.rmtree(folder)
