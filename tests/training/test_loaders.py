import threading
from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.training import batches
from pipeline.training.augmentation import Shift
from pipeline.training.batches import positions, windows
from pipeline.training.loaders import Loader, ahead

PLAIN = Shift(shift=0, flip=False)


class Numbered:
    """A data set in pieces whose image i is filled with i; it remembers what was read."""

    def __init__(self, sizes: list[int]):
        self.sizes = sizes
        self.read: list[int] = []

    def load(self, piece: int) -> tuple[Tensor, Tensor]:
        self.read.append(piece)
        start = sum(self.sizes[:piece])
        labels = torch.arange(start, start + self.sizes[piece])
        return labels[:, None, None, None].expand(-1, 1, 4, 4).to(torch.uint8), labels


def drawn(pool: Loader, seed: int, count: int, start: int = 0) -> list[Tensor]:
    return [torch.cat([part.flatten().float() for part in batch]) for batch in islice(pool.draws(seed, start), count)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=40), st.integers(1, 9), st.integers(0, 9), st.integers(0, 12))
def test_in_memory_and_streamed_the_batches_are_the_same(sizes: list[int], batch: int, seed: int, start: int) -> None:
    augmentation = Shift(shift=1, flip=True)
    pools = [Loader(Numbered(sizes), batch, augmentation, in_memory) for in_memory in (True, False)]
    whole = drawn(pools[0], seed, start + 6)
    for pool in pools:
        for expected, found in zip(whole[start:], drawn(pool, seed, 6, start), strict=True):
            assert torch.equal(expected, found)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=40), st.integers(0, 9))
def test_a_pass_has_every_item_once(sizes: list[int], seed: int) -> None:
    per_pass = -(-len(sizes) // batches.OPEN)
    for _ in range(2):
        found = torch.cat([positions(sizes, *window) for window in islice(windows(sizes, seed), per_pass)])
        assert sorted(found.tolist()) == list(range(sum(sizes)))


def test_passes_and_seeds_differ() -> None:
    pool = Loader(Numbered([3] * 40), 30, PLAIN, True)
    first = drawn(pool, 0, 8)
    assert not any(torch.equal(a, b) for a, b in zip(first[:4], first[4:], strict=True))
    assert not torch.equal(first[0], drawn(pool, 1, 1)[0])


def test_few_pieces_are_mixed_as_a_whole() -> None:
    """Batches of a sorted data set hold items of all pieces."""
    for batch in islice(Loader(Numbered([50] * 4), 40, PLAIN, True).draws(0), 5):
        assert (batch.labels // 50).unique().tolist() == [0, 1, 2, 3]


def test_streaming_holds_no_more_than_the_open_pieces() -> None:
    data = Numbered([2] * 100)
    stream = Loader(data, 4, PLAIN, False).draws(0)
    next(stream)
    assert len(data.read) <= 3 * batches.OPEN
    stream.close()
    assert threading.active_count() < 20


def test_a_later_start_reads_nothing_of_what_lies_before() -> None:
    data = Numbered([2] * 100)
    stream = Loader(data, 2, PLAIN, False).draws(0, start=90)
    next(stream)
    assert len(data.read) <= 2 * batches.OPEN
    stream.close()


def test_augmentation_follows_seed_and_step() -> None:
    augmentation, images = Shift(shift=2, flip=True), torch.randint(256, (8, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(augmentation(images, 1, 5), augmentation(images, 1, 5))
    assert not torch.equal(augmentation(images, 1, 5), augmentation(images, 1, 6))
    assert not torch.equal(augmentation(images, 1, 5), augmentation(images, 2, 5))
    assert torch.equal(PLAIN(images, 1, 5), images / 255)


@pytest.mark.parametrize("in_memory", [True, False])
def test_statistics_are_those_of_all_pixels(in_memory: bool) -> None:
    class Coloured(Numbered):
        def load(self, piece: int) -> tuple[Tensor, Tensor]:
            generator = torch.Generator().manual_seed(piece)
            n = self.sizes[piece]
            return torch.randint(0, 256, (n, 3, 4, 4), generator=generator, dtype=torch.uint8), torch.zeros(n).long()

    data = Coloured([5, 9, 1])
    pixels = torch.cat([data.load(piece)[0] for piece in range(3)]).double() / 255
    mean, std = Loader(data, 2, PLAIN, in_memory).statistics
    assert mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), rel=1e-9)
    assert std == pytest.approx(pixels.std(dim=(0, 2, 3)).tolist(), rel=1e-9)


def test_reading_ahead_keeps_the_order_and_passes_errors_on() -> None:
    assert list(ahead(lambda item: 2 * item, range(5))) == [0, 2, 4, 6, 8]
    assert list(ahead(abs, [])) == []
    results = ahead(lambda item: 1 // item, [1, 0])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
