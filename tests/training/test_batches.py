from itertools import islice

import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.batches import flip, shift, shuffled


@given(st.integers(1, 50), st.integers(1, 70), st.integers(0, 1000))
def test_every_index_comes_equally_often(count: int, batch: int, seed: int) -> None:
    drawn = torch.cat(list(islice(shuffled(count, batch, seed), 10)))
    whole = drawn[: len(drawn) // count * count].bincount(minlength=count)
    assert len(set(whole.tolist())) == 1
    assert all(len(part) == batch for part in islice(shuffled(count, batch, seed), 3))


def test_order_follows_the_seed() -> None:
    first, again, other = (torch.cat(list(islice(shuffled(100, 10, seed), 5))) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_shift_moves_each_image_by_at_most_the_padding() -> None:
    images = torch.zeros(200, 2, 9, 9)
    images[:, :, 4, 4] = 1
    moved = shift(images, 2, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    rows, columns = moved[:, 0].flatten(1).argmax(dim=1) // 9 - 4, moved[:, 0].flatten(1).argmax(dim=1) % 9 - 4
    assert set(rows.tolist()) == set(columns.tolist()) == {-2, -1, 0, 1, 2}
    assert torch.equal(moved[:, 0], moved[:, 1])


def test_shift_of_nothing_and_flip() -> None:
    images = torch.randn(100, 1, 4, 4)
    assert shift(images, 0, torch.Generator()) is images
    flipped = flip(images, torch.Generator().manual_seed(0))
    mirrored = (flipped != images).flatten(1).any(dim=1)
    assert 20 < int(mirrored.sum()) < 80
    assert torch.equal(flipped[mirrored], images[mirrored].flip(-1))
