"""What is read at a time: rows of row groups, each image once and in order, evenly where not all are wanted."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts import images
from pipeline.artifacts.chunks import by_file, by_group, chunks_of, evenly
from pipeline.artifacts.codec import encode_png
from pipeline.artifacts.images import ImageFile, Picture, Preprocessing


def write_set(path: Path, pixels: torch.Tensor) -> ImageFile:
    pictures = [Picture(f"k{i}", encode_png(own.numpy()), i) for i, own in enumerate(pixels)]
    images.write(path, pictures, ["a"], "id", Preprocessing(8))
    return ImageFile(path)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.data())
def test_rows_of_a_set_as_rows_of_its_row_groups(sizes: list[int], data: st.DataObject) -> None:
    total = sum(sizes)
    wanted = sorted(data.draw(st.sets(st.integers(0, total - 1))))
    starts = [sum(sizes[:group]) for group in range(len(sizes))]
    found = by_group(sizes, torch.tensor(wanted, dtype=torch.int64))
    assert len(found) == len(sizes)
    assert [start + row for start, own in zip(starts, found, strict=True) for row in own.tolist()] == wanted
    assert all(0 <= row < size for size, own in zip(sizes, found, strict=True) for row in own.tolist())


@pytest.mark.parametrize("count", [None, 1, 2, 5, 10, 99])
def test_the_pieces_of_a_set(count: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "ROW_GROUP", 4)
    pixels = torch.randint(0, 256, (10, 1, 8, 8), dtype=torch.uint8)
    pieces = chunks_of(write_set(tmp_path / "set.parquet", pixels), count)
    rows = evenly(min(count or 10, 10), 10)
    assert torch.equal(torch.cat([piece.images() for piece in pieces]), pixels[rows])
    keys, labels = zip(*(piece.names() for piece in pieces), strict=True)
    assert [key for own in keys for key in own] == [f"k{row}" for row in rows.tolist()]
    assert torch.cat(labels).tolist() == rows.tolist()
    assert all(len(piece.rows) for piece in pieces)


def test_pieces_by_file_keep_their_places_in_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "ROW_GROUP", 4)
    files = [write_set(tmp_path / f"{n}.parquet", torch.zeros(n, 1, 8, 8, dtype=torch.uint8)) for n in (9, 3)]
    pieces = [piece for file in files for piece in chunks_of(file)]
    found = list(by_file(pieces))
    assert [file for file, _ in found] == files
    assert [[i for i, _ in own] for _, own in found] == [[0, 1, 2], [3]]
    assert all(pieces[i] is piece and piece.file is file for file, own in found for i, piece in own)
