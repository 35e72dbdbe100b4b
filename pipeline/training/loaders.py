"""Labelled images that training draws from: whole on the device, or read piece by piece. The batches are the same."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from pipeline.runtime.processes import pick_device
from pipeline.training.augmentation import Augment
from pipeline.training.batches import batched, positions, windows

SOME = 5000  # images that tell what all are like
Item = TypeVar("Item")
Made = TypeVar("Made")


class Batch(NamedTuple):
    """One concatenated batch: images float in 0..1, (n, channels, h, w), or features of a frozen network, (n, d), and
    labels (n,), -1 for outliers."""

    images: Tensor
    labels: Tensor


class Pieces(Protocol):
    """A data set in pieces that fit in memory: row groups of a parquet file, shards of an outlier dataset."""

    @property
    def sizes(self) -> Sequence[int]:
        """Images of each piece."""
        ...

    def load(self, piece: int) -> tuple[Tensor, Tensor]:
        """Pixels, uint8 (n, channels, h, w), or features, float32 (n, d), and labels, int64 (n,), -1 for outliers."""
        ...


def whole(data: Pieces) -> tuple[Tensor, Tensor]:
    """Pixels and labels of all pieces."""
    pixels, labels = zip(*(data.load(piece) for piece in range(len(data.sizes))), strict=True)
    return torch.cat(pixels), torch.cat(labels)


def ahead(function: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """`function` of each item in order; while one result is used a thread makes the next."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        waiting = None
        for item in items:
            made = thread.submit(function, item)
            if waiting is not None:
                yield waiting.result()
            waiting = made
        if waiting is not None:
            yield waiting.result()


class Loader:
    """A data set that batches are drawn from without end, augmented, on the device.

    Args:
        data: the data set.
        batch: images of one draw.
        augment: gives a network's inputs.
        in_memory: hold all images on the device; else a window of pieces at a time, the next one read ahead.

    Attributes:
        shape: of one image, (channels, height, width).
        statistics: mean and standard deviation in 0..1 of each channel, exact, from a piece at a time.
    """

    def __init__(self, data: Pieces, batch: int, augment: Augment, in_memory: bool):
        self.data, self.batch, self.augment = data, batch, augment
        self.device = pick_device()
        self.held = tuple(column.to(self.device) for column in whole(data)) if in_memory else None

    def draws(self, seed: int, start: int = 0) -> Iterator[Batch]:
        """Batches from number `start` on; batch i depends on (data, batch, seed, i) alone, in memory or not."""
        parts = self._in_memory(seed, start) if self.held is not None else self._streamed(seed, start)
        for step, (pixels, labels) in enumerate(parts, start):
            yield Batch(self.augment(pixels, seed, step), labels)

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = (self.held or self.data.load(0))[0].shape[1:]
        return channels, height, width

    @cached_property
    def statistics(self) -> tuple[list[float], list[float]]:
        count, total, squares = 0, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
        for pixels in [self.held[0]] if self.held else (self.data.load(i)[0] for i in range(len(self.data.sizes))):
            values = pixels.transpose(0, 1).flatten(1).long()  # whole numbers: no rounding, any order
            count, total = count + values.shape[1], total + values.sum(dim=1).cpu()
            squares = squares + values.square().sum(dim=1).cpu()
        mean, square = total.double() / count, squares.double() / count
        std = ((square - mean.square()) * count / (count - 1)).sqrt()
        return (mean / 255).tolist(), (std / 255).tolist()

    def some(self) -> Tensor:
        """Pixels of at most `SOME` images of the first piece, spread over it; the same in memory or not."""
        pixels = self.data.load(0)[0]
        return pixels[:: -(-len(pixels) // SOME)]

    def _windows(self, seed: int, start: int) -> Iterator[tuple[list[int], Tensor]]:
        passed = start * self.batch
        for window, order in windows(self.data.sizes, seed):
            if passed < len(order):
                yield window, order[passed:]
            passed = max(0, passed - len(order))

    def _in_memory(self, seed: int, start: int) -> Iterator[tuple[Tensor, ...]]:
        assert self.held is not None
        rows = ((positions(self.data.sizes, *window),) for window in self._windows(seed, start))
        for (index,) in batched(rows, self.batch):
            yield tuple(column[index.to(self.device)] for column in self.held)

    def _streamed(self, seed: int, start: int) -> Iterator[tuple[Tensor, ...]]:
        for columns in batched(ahead(self._read, self._windows(seed, start)), self.batch):
            yield tuple(column.to(self.device) for column in columns)

    def _read(self, window: tuple[list[int], Tensor]) -> tuple[Tensor, Tensor]:
        pieces, order = window
        pixels, labels = zip(*(self.data.load(piece) for piece in pieces), strict=True)
        return torch.cat(pixels)[order], torch.cat(labels)[order]
