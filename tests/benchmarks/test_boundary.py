"""Boundary sampling against what a user would write, and against the indexing of OAL's released code.

`pytest tests/benchmarks --benchmark-only`. With faiss-cpu installed its flat index, which the released code uses,
runs beside ours.
"""

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from pipeline.synthesis.boundary import find_anchors, perturb

SIZES = {"500x768": (500, 768), "5000x4096": (5000, 4096)}
NEIGHBOURS, ANCHORS, DRAWS, KEEP, SIGMA = 300, 50, 1500, 2, 0.07  # of the released code


def problem(n: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents = torch.nn.functional.normalize(torch.randn(n, d, generator=generator))
    noise = SIGMA * torch.randn(DRAWS, d, generator=generator)
    return latents, find_anchors(latents, NEIGHBOURS, ANCHORS), noise


def ours(latents: Tensor, anchors: Tensor, noise: Tensor) -> Tensor:
    return perturb(latents, anchors, noise, NEIGHBOURS, KEEP, unit_sphere=False)


def ours_on_the_sphere(latents: Tensor, anchors: Tensor, noise: Tensor) -> Tensor:
    """The papers' own setting: perturbed vectors are scaled back to length 1."""
    return perturb(latents, anchors, noise, NEIGHBOURS, KEEP, unit_sphere=True)


def every_candidate(latents: Tensor, anchors: Tensor, noise: Tensor) -> Tensor:
    """What a user would write: all distances of each anchor's candidates by torch.cdist."""
    kept = []
    for anchor in anchors:
        candidates = latents[anchor] + noise
        distances = torch.cdist(candidates, latents).kthvalue(NEIGHBOURS, dim=1).values
        kept.append(candidates[distances.topk(KEEP).indices])
    return torch.stack(kept)


def released(latents: Tensor, anchors: Tensor, noise: Tensor) -> Tensor:
    """The released code's search: faiss's exact flat index over the class, asked for every candidate."""
    faiss = pytest.importorskip("faiss")
    index = faiss.IndexFlatL2(latents.shape[1])
    index.add(latents.numpy())
    candidates = latents[anchors][:, None] + noise
    distances, _ = index.search(candidates.flatten(0, 1).numpy(), NEIGHBOURS)
    best = torch.from_numpy(distances[:, -1]).view(ANCHORS, DRAWS).topk(KEEP, dim=1).indices  # its indexing repaired
    return candidates.gather(1, best[..., None].expand(-1, -1, candidates.shape[-1]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", [ours, ours_on_the_sphere, every_candidate, released])
def test_speed(benchmark: BenchmarkFixture, method: Callable[..., Tensor], size: str) -> None:
    latents, anchors, noise = problem(*SIZES[size])
    kept = benchmark.pedantic(method, (latents, anchors, noise), rounds=1 if size == "5000x4096" else 3)
    assert kept.shape == (ANCHORS, KEEP, latents.shape[1])


@pytest.mark.parametrize("n", [1_000, 4_000, 16_000, 64_000])
def test_growth(benchmark: BenchmarkFixture, n: int) -> None:
    """Seconds against the number of latents, 256-dimensional."""
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(n, 256, generator=generator), torch.randn(DRAWS, 256, generator=generator)
    benchmark.pedantic(perturb, (latents, torch.arange(ANCHORS), noise, NEIGHBOURS, KEEP, False), rounds=1)
