"""TAESD at 64 px, as `encode` and `shards` run it, against the loop of diffusers' documentation in float32.

`pytest tests/benchmarks/test_encoding.py --benchmark-only`. The weights do not change the cost, so random ones do.
"""

from collections.abc import Callable

import pytest
import torch
from diffusers import AutoencoderTiny
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pipeline.settings.encode import InferenceSettings
from pipeline.synthesis import autoencoder as space

IMAGES, SIZE = 128, 64
SIDE = 1024  # of the matrices whose product shows what the processor can do


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
    "float32, batches of 64": InferenceSettings(batch=64, precision="float32"),
    "float32, batches of 16": InferenceSettings(batch=16, precision="float32"),
    "bfloat16, batches of 256": InferenceSettings(batch=256, precision="bfloat16"),
    "bfloat16, batches of 16": InferenceSettings(batch=16, precision="bfloat16"),
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


def operations(run: Callable[[Tensor], Tensor], data: Tensor) -> int:
    """Floating-point operations of a network, a multiplication and an addition counted as two."""
    with FlopCounterMode(display=False) as counter:
        documented(run, data)
    return counter.get_total_flops()


@pytest.mark.parametrize("half", ["encode", "decode"])
def test_bound(benchmark: BenchmarkFixture, half: str) -> None:
    """The same number of operations as products of large matrices in bfloat16: what arithmetic alone would take."""
    autoencoder = AutoencoderTiny().eval().requires_grad_(False)
    if half == "encode":
        count = operations(lambda chunk: autoencoder.encode(chunk).latents, torch.zeros(IMAGES, 3, SIZE, SIZE))
    else:
        raw_latents = torch.zeros(IMAGES, 4, SIZE // 8, SIZE // 8)
        count = operations(lambda chunk: autoencoder.decode(chunk).sample, raw_latents)
    first, second = torch.randn(2, SIDE, SIDE).bfloat16()
    products = round(count / (2 * SIDE**3))

    def multiply() -> None:
        for _ in range(products):
            torch.mm(first, second)

    benchmark.pedantic(multiply, rounds=3, warmup_rounds=1)
    benchmark.extra_info["operations, in 10^9"] = round(count / 1e9)
    print(f"\n{half}: {benchmark.extra_info}")
