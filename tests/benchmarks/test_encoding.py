"""Encoding with TAESD at 64 px, as `encode` does it, against the loop of diffusers' documentation in float32.

`pytest tests/benchmarks/test_encoding.py --benchmark-only`. The weights do not change the cost, so random ones do.
"""

import pytest
import torch
from diffusers import AutoencoderTiny
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from pipeline.synthesis import autoencoder as space

IMAGES, SIZE, BATCH = 512, 64, 64


def documented(autoencoder: AutoencoderTiny, pixels: Tensor) -> Tensor:
    """Batches of normalised images in float32, one after another."""
    found = []
    with torch.no_grad():
        for chunk in pixels.split(BATCH):
            found.append(autoencoder.encode(space.normalise(chunk, SIZE)).latents)
    return torch.cat(found)


def ours(autoencoder: AutoencoderTiny, pixels: Tensor) -> Tensor:
    return space.encode(autoencoder, pixels, SIZE, space.Running(batch=BATCH))[0]


def ours_in_bfloat16(autoencoder: AutoencoderTiny, pixels: Tensor) -> Tensor:
    return space.encode(autoencoder, pixels, SIZE, space.Running(batch=BATCH, precision="bfloat16"))[0]


@pytest.mark.parametrize("method", [documented, ours, ours_in_bfloat16])
def test_encode(benchmark: BenchmarkFixture, method) -> None:
    torch.manual_seed(0)
    autoencoder = AutoencoderTiny().eval().requires_grad_(False)
    pixels = torch.randint(0, 256, (IMAGES, 3, SIZE, SIZE), dtype=torch.uint8)
    latents = benchmark.pedantic(method, (autoencoder, pixels), rounds=3, warmup_rounds=1)
    exact = documented(autoencoder, pixels[:BATCH])
    error = float((latents[:BATCH] - exact).abs().max() / exact.std())
    benchmark.extra_info["largest difference, in standard deviations"] = round(error, 4)
    print(f"\n{method.__name__}: {benchmark.extra_info}")
    assert error < 0.2
