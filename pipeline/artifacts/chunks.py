"""Image sets, or features of them, a piece at a time: what stages read, work on and keep, so that memory stays flat."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.artifacts.features import FeatureFile
from pipeline.artifacts.images import ImageFile

AnyFile = ImageFile | FeatureFile


@dataclass(frozen=True)
class Chunk:
    """Some rows of one piece of an image set, or of the features of one."""

    file: AnyFile
    group: int
    rows: Tensor

    def images(self) -> Tensor:
        """Pixels, uint8 (n, channels, size, size), or features, float32 (n, d)."""
        return self.file.load(self.group)[0][self.rows]

    def names(self) -> tuple[list[str], Tensor]:
        """Keys and labels; decodes no image."""
        keys, labels = self.file.names(self.group)
        return [keys[row] for row in self.rows.tolist()], labels[self.rows]


def chunks_of(file: AnyFile, count: int | None = None) -> list[Chunk]:
    """The pieces of a set, or of `count` of its images at even distances where it has more."""
    total = sum(file.sizes)
    rows = evenly(min(count or total, total), total)
    return [Chunk(file, group, own) for group, own in enumerate(by_group(file.sizes, rows)) if len(own)]


def by_file(pieces: Sequence[Chunk]) -> Iterator[tuple[AnyFile, list[tuple[int, Chunk]]]]:
    """Each file of a list of pieces, with its pieces and their places in the list."""
    for file in dict.fromkeys(piece.file for piece in pieces):
        yield file, [(i, piece) for i, piece in enumerate(pieces) if piece.file is file]


def evenly(count: int, total: int) -> Tensor:
    """Rows of `count` of `total` images at even distances, int64: some sets are sorted by class."""
    return torch.arange(count) * total // count


def by_group(sizes: Sequence[int], rows: Tensor) -> list[Tensor]:
    """Ascending rows of a whole set as rows of each of its row groups."""
    ends = torch.tensor(sizes).cumsum(dim=0)
    parts = rows.tensor_split(torch.searchsorted(rows, ends)[:-1])
    return [part - end + size for part, end, size in zip(parts, ends, sizes, strict=True)]
