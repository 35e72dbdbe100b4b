from pathlib import Path

import pytest
import torch

from pipeline.artifacts import images
from pipeline.artifacts.codec import encode_png
from pipeline.artifacts.images import Picture, Preprocessing
from pipeline.runtime.errors import UserError


def written(folder: Path, shapes: list[tuple[int, int, int]]) -> Path:
    random = torch.Generator().manual_seed(0)
    pixels = [torch.randint(0, 256, shape, dtype=torch.uint8, generator=random).numpy() for shape in shapes]
    pictures = [Picture(f"{i}.png", encode_png(own), i % 2) for i, own in enumerate(pixels)]
    images.write(folder / "set.parquet", pictures, ["a", "b"], "id", Preprocessing(8))
    return folder / "set.parquet"


def test_a_set_too_large_for_memory_is_the_same_set_and_leaves_no_file(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "ROW_GROUP", 4)
    path = written(workplace, [(3, 8, 8)] * 10)
    small = images.load(path)
    assert small.keys == [f"{i}.png" for i in range(10)] and small.labels.tolist() == [0, 1] * 5
    (workplace / "data").mkdir()
    monkeypatch.setattr(images, "IN_MEMORY", 0)
    large = images.load(path)
    assert torch.equal(large.pixels, small.pixels) and torch.equal(large.labels, small.labels)
    assert large.keys == small.keys and not list((workplace / "data").iterdir())
    del small
    assert int(large.pixels.sum()) > 0  # the file has no name any more and is still there


@pytest.mark.parametrize("shapes", [[(3, 8, 8), (3, 8, 9)], [(3, 8, 8)] * 4 + [(1, 8, 8)]])
def test_images_of_several_shapes_are_refused(
    shapes: list[tuple[int, int, int]], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "ROW_GROUP", 4)
    with pytest.raises(UserError, match="several shapes"):
        images.load(written(workplace, shapes))
