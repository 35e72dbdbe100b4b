"""Random draws that belong to one outlier: draw i depends on (seed, stream, i), never on its batch."""

import zlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


def generator(seed: int, stream: str, index: int) -> np.random.Generator:
    """The generator of item `index` of a named stream; streams and items are independent of each other."""
    return np.random.default_rng([seed, zlib.crc32(stream.encode()), index])


def normal(seed: int, stream: str, indices: Iterable[int], shape: tuple[int, ...]) -> Tensor:
    """Standard normal float32 (n, *shape): row j is the draw of `indices[j]`."""
    rows = [generator(seed, stream, index).standard_normal(shape, dtype=np.float32) for index in indices]
    return torch.from_numpy(np.stack(rows))
