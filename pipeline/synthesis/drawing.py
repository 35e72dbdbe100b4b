"""Which ID images an outlier is made of: row i depends on the seed and i alone."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pipeline.artifacts.candidates import Candidates
from pipeline.artifacts.images import ImageSet
from pipeline.synthesis.randomness import generator
from pipeline.training.batches import shuffled


def rows_in_passes(seed: int, indices: range, total: int) -> Tensor:
    """Rows of `total` images in passes over all of them, int64: any first part of them is a fair part."""
    return next(shuffled(total, indices.stop, seed))[indices.start :]


def rows_by_class(labels: Tensor, seed: int, stream: str, indices: range) -> Tensor:
    """A random row of each class in turn, int64 (n,)."""
    members = [torch.nonzero(labels == label).flatten() for label in range(int(labels.max()) + 1)]
    rows = []
    for index in indices:
        own = members[index % len(members)]
        rows.append(int(own[generator(seed, stream, index).integers(len(own))]))
    return torch.tensor(rows)


def two_rows(random: np.random.Generator, labels: np.ndarray) -> tuple[int, int]:
    """Rows of two images of different classes."""
    first = int(random.integers(len(labels)))
    return first, int(random.choice(np.flatnonzero(labels != labels[first])))


def changed_id(
    id_set: ImageSet, seed: int, change: Callable[[Tensor], Tensor], strength: float
) -> Callable[[range], Candidates]:
    """What draws ID images, uint8 (n, channels, size, size), each changed, in passes over all of them."""

    def draw(indices: range) -> Candidates:
        rows = rows_in_passes(seed, indices, len(id_set))
        return Candidates.of_images(
            change(id_set.pixels[rows]), id_set.labels[rows], torch.full((len(rows),), strength), rows
        )

    return draw


def in_passes(pixels: Tensor, seed: int) -> Callable[[range], Candidates]:
    """What draws images as they are, uint8 (n, channels, size, size), in passes over all of them."""
    return lambda indices: Candidates.of_nothing(pixels[rows_in_passes(seed, indices, len(pixels))])
