"""Batches in a seeded order: the same whether the images are in memory or read piece by piece."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional

OPEN = 16  # pieces of a data set that are mixed with each other


def windows(sizes: Sequence[int], seed: int) -> Iterator[tuple[list[int], Tensor]]:
    """Endless passes over a data set that comes in pieces, a few pieces at a time, in a fresh order in every pass.

    Where the data set has no more pieces than are mixed at once, that is a plain shuffle of the whole.

    Args:
        sizes: items of each piece.

    Yields:
        the pieces of a window, ascending, and the order of their items: int64, an index into their concatenation.
    """
    generator = torch.Generator().manual_seed(seed)
    pieces = list(range(len(sizes)))
    while True:
        if len(sizes) > OPEN:
            pieces = torch.randperm(len(sizes), generator=generator).tolist()
        for start in range(0, len(pieces), OPEN):
            window = sorted(pieces[start : start + OPEN])
            yield window, torch.randperm(sum(sizes[piece] for piece in window), generator=generator)


def positions(sizes: Sequence[int], window: Sequence[int], order: Tensor) -> Tensor:
    """The items of a window as indices into the whole data set, int64, in the window's order."""
    ends = list(accumulate(sizes))
    return torch.cat([torch.arange(ends[piece] - sizes[piece], ends[piece]) for piece in window])[order]


def batched(parts: Iterator[tuple[Tensor, ...]], batch: int) -> Iterator[tuple[Tensor, ...]]:
    """Cut columns that come in parts of any length into rows of `batch`; the last part's rest is left out."""
    left: tuple[Tensor, ...] | None = None
    for part in parts:
        left = part if left is None else tuple(map(torch.cat, zip(left, part, strict=True)))
        while len(left[0]) >= batch:
            yield tuple(column[:batch] for column in left)
            left = tuple(column[batch:] for column in left)


def shuffled(count: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Endless index batches, int64 (batch,): pass after pass in a fresh order, no index left out.

    The order depends on (count, seed) alone and is drawn on the CPU, so that devices agree.
    """
    return (index for (index,) in batched(((order,) for _, order in windows([count], seed)), batch))


def as_images(pixels: Tensor) -> Tensor:
    """uint8 pixels to float32 images in 0..1."""
    return pixels.float() / 255


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


def together(parts: Sequence[Tensor]) -> Tensor:
    """Parts of a batch as one: images in the memory layout that convolutions are fastest in, features as they are."""
    items = torch.cat(list(parts))
    return items.contiguous(memory_format=torch.channels_last) if items.ndim == 4 else items
