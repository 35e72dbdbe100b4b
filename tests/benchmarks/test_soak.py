"""`predict` over 100,000 files: memory stays flat, the pace steady, and what cannot be read stops nothing.

`pytest tests/benchmarks/test_soak.py --benchmark-only -m slow -s`, minutes. The files are 1,000 images of random pixels
under 100,000 names, one in a hundred of them damaged.
"""

import os
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

from pipeline.artifacts import detector
from pipeline.artifacts.detector import Detector, Settings
from pipeline.classifier.networks import Classifier
from pipeline.serving import open_set
from pipeline.serving.predict import find, predict

FILES, DISTINCT, TENTHS = 100_000, 1_000, 10


def make_files(folder: Path) -> None:
    random = np.random.default_rng(0)
    for i in range(DISTINCT):
        pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:06d}.jpg", quality=75)
        if i % 100 == 0:
            path = folder / f"{i:06d}.jpg"
            path.write_bytes(path.read_bytes()[:200])
    for i in range(DISTINCT, FILES):
        os.link(folder / f"{i % DISTINCT:06d}.jpg", folder / f"{i:06d}.jpg")


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_hundred_thousand_files(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    torch.manual_seed(0)
    photographs, folder = tmp_path / "photographs", tmp_path / "model"
    photographs.mkdir()
    make_files(photographs)
    Classifier("resnet-20", {"kind": "linear"}, ["a", "b"], 32, 3, [0.5] * 3, [0.2] * 3).save_pretrained(folder)
    detector.write(
        folder, Detector(Settings(score={"msp": {}}, false_alarms=0.05), torch.linspace(-1, 0, 100).double())
    )
    model, process = open_set.load(str(folder), None), psutil.Process()
    memory, pace, skipped = [], [], 0

    def soak() -> None:
        nonlocal skipped
        begun = time.monotonic()
        for done, row in enumerate(predict(model, find([str(photographs)]).images, 64, 0.05), 1):
            skipped += "error" in row
            if done % (FILES // TENTHS) == 0:
                memory.append(round(process.memory_info().rss / 2**20))
                pace.append(round(FILES / TENTHS / (time.monotonic() - begun)))
                begun = time.monotonic()

    benchmark.pedantic(soak, rounds=1)
    benchmark.extra_info |= {"resident MiB after each tenth": memory, "files a second in each tenth": pace}
    print(f"\n{benchmark.extra_info}")
    assert skipped == FILES // 100
    assert memory[-1] < 1.05 * memory[0]
