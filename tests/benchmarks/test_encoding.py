"""TAESD at 64 px, as `encode` and `shards` run it, against the loop of diffusers' documentation in float32.

`pytest tests/benchmarks/test_encoding.py --benchmark-only`. The weights do not change the cost, so random ones do.
"""

from collections.abc import Callable

import pytest
import torch
from diffusers import AutoencoderTiny
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from pipeline.synthesis import autoencoder as space

IMAGES, SIZE = 128, 64


def documented(run: Callable[[Tensor], Tensor], data: Tensor) -> Tensor:
    """Batches of 64 in float32, one after another."""
    with torch.no_grad():
        return torch.cat([run(chunk) for chunk in data.split(64)])


def encode_documented(autoencoder: AutoencoderTiny, pixels: Tensor) -> Tensor:
    return documented(lambda chunk: autoencoder.encode(space.normalise(chunk, SIZE)).latents, pixels)


def decode_documented(autoencoder: AutoencoderTiny, raw_latents: Tensor) -> Tensor:
    images = documented(lambda chunk: autoencoder.decode(chunk).sample, raw_latents)
    return ((images + 1) * 127.5).round().clamp(0, 255)


RUNNING = {
    "float32, batches of 64": space.Running(batch=64, precision="float32"),
    "float32, batches of 16": space.Running(batch=16, precision="float32"),
    "bfloat16, batches of 256": space.Running(batch=256, precision="bfloat16"),
    "bfloat16, batches of 16": space.Running(batch=16, precision="bfloat16"),
}
METHODS = ["documented", *RUNNING]


def compared(benchmark: BenchmarkFixture, method: str, found: Tensor, exact: Tensor) -> None:
    error = float((found - exact).abs().mean() / exact.std())
    benchmark.extra_info["mean difference, in standard deviations"] = round(error, 5)
    print(f"\n{method}: {benchmark.extra_info}")
    assert error < 0.1  # of the little that random weights show


@pytest.mark.parametrize("method", METHODS)
def test_encode(benchmark: BenchmarkFixture, method: str) -> None:
    torch.manual_seed(0)
    autoencoder = AutoencoderTiny().eval().requires_grad_(False)
    pixels = torch.randint(0, 256, (IMAGES, 3, SIZE, SIZE), dtype=torch.uint8)
    exact = encode_documented(autoencoder, pixels)
    if method == "documented":
        found = benchmark.pedantic(encode_documented, (autoencoder, pixels), rounds=3, warmup_rounds=1)
    else:
        arguments = (autoencoder, pixels, SIZE, RUNNING[method])
        found = benchmark.pedantic(space.encode, arguments, rounds=3, warmup_rounds=1)[0]
    compared(benchmark, method, found, exact)


@pytest.mark.parametrize("method", METHODS)
def test_decode(benchmark: BenchmarkFixture, method: str) -> None:
    torch.manual_seed(0)
    autoencoder = AutoencoderTiny().eval().requires_grad_(False)
    raw_latents = torch.randn(IMAGES, 4, SIZE // 8, SIZE // 8)
    exact = decode_documented(autoencoder, raw_latents)
    if method == "documented":
        found = benchmark.pedantic(decode_documented, (autoencoder, raw_latents), rounds=3, warmup_rounds=1)
    else:
        arguments = (autoencoder, raw_latents, SIZE, RUNNING[method])
        found = benchmark.pedantic(space.decode, arguments, rounds=3, warmup_rounds=1)
    compared(benchmark, method, found.float(), exact)
