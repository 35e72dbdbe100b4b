"""What `infer` reads at a time: rows of pieces, each image once and in order, evenly where not all are wanted."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts import images
from pipeline.artifacts.images import ImageFile, Picture, Preprocessing
from pipeline.infer import jobs_of


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.data())
def test_rows_of_a_set_as_rows_of_its_pieces(sizes: list[int], data: st.DataObject) -> None:
    total = sum(sizes)
    wanted = sorted(data.draw(st.sets(st.integers(0, total - 1))))
    starts = [sum(sizes[:piece]) for piece in range(len(sizes))]
    found = images.by_piece(sizes, torch.tensor(wanted, dtype=torch.int64))
    assert len(found) == len(sizes)
    assert [start + row for start, own in zip(starts, found, strict=True) for row in own.tolist()] == wanted
    assert all(0 <= row < size for size, own in zip(sizes, found, strict=True) for row in own.tolist())


@pytest.mark.parametrize("count", [None, 1, 2, 5, 10, 99])
def test_the_jobs_of_a_set(count: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "ROW_GROUP", 4)
    pixels = torch.randint(0, 256, (10, 1, 8, 8), dtype=torch.uint8)
    pictures = [Picture(f"k{i}", images.encode_png(own.numpy()), i) for i, own in enumerate(pixels)]
    images.write(tmp_path / "set.parquet", pictures, ["a"], "id", Preprocessing(8))
    jobs = jobs_of(ImageFile(tmp_path / "set.parquet"), count)
    rows = images.evenly(min(count or 10, 10), 10)
    assert torch.equal(torch.cat([job.images() for job in jobs]), pixels[rows])
    keys, labels = zip(*(job.names() for job in jobs), strict=True)
    assert [key for own in keys for key in own] == [f"k{row}" for row in rows.tolist()]
    assert torch.cat(labels).tolist() == rows.tolist()
    assert all(len(job.rows) for job in jobs)
