"""Batches from a data set that is whole in memory: repeatable, without a worker process."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional


def shuffled(count: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Endless index batches, int64 (batch,): pass after pass in a fresh order, no index left out.

    The order depends on (count, seed) alone and is drawn on the CPU, so that devices agree.
    """
    generator = torch.Generator().manual_seed(seed)
    left = torch.empty(0, dtype=torch.int64)
    while True:
        while len(left) < batch:
            left = torch.cat([left, torch.randperm(count, generator=generator)])
        yield left[:batch]
        left = left[batch:]


def shift(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Random crops of the images padded by reflection: each moves by up to `padding` pixels.

    Args:
        images: (n, channels, height, width).
        padding: pixels, 0 for none.
        generator: a CPU generator.
    """
    if padding == 0:
        return images
    n, channels, height, width = images.shape
    padded = functional.pad(images, [padding] * 4, mode="reflect")
    top, left = torch.randint(0, 2 * padding + 1, (2, n), generator=generator).to(images.device)
    rows = (top[:, None] + torch.arange(height, device=images.device))[:, None, :, None]
    columns = (left[:, None] + torch.arange(width, device=images.device))[:, None, None, :]
    n_index = torch.arange(n, device=images.device)[:, None, None, None]
    c_index = torch.arange(channels, device=images.device)[None, :, None, None]
    return padded[n_index, c_index, rows, columns]


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability one half."""
    mirrored = torch.rand(len(images), generator=generator).to(images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)
