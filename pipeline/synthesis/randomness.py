"""Random draws that belong to one outlier: draw i depends on (seed, stream, i), never on its batch."""

import zlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


def _words(seed: int, stream: str, index: int) -> list[int]:
    return [seed, zlib.crc32(stream.encode()), index]


def generator(seed: int, stream: str, index: int) -> np.random.Generator:
    """The generator of item `index` of a named stream; streams and items are independent of each other."""
    return np.random.default_rng(_words(seed, stream, index))


def torch_generators(seed: int, stream: str, indices: Iterable[int]) -> list[torch.Generator]:
    """The same for PyTorch: one CPU generator an item, for a sampler that draws noise at every step."""
    states = [np.random.SeedSequence(_words(seed, stream, i)).generate_state(1, np.uint64)[0] for i in indices]
    return [torch.Generator().manual_seed(int(state >> np.uint64(1))) for state in states]


def normal(seed: int, stream: str, indices: Iterable[int], shape: tuple[int, ...]) -> Tensor:
    """Standard normal float32 (n, *shape): row j is the draw of `indices[j]`."""
    rows = [generator(seed, stream, index).standard_normal(shape, dtype=np.float32) for index in indices]
    return torch.from_numpy(np.stack(rows))
