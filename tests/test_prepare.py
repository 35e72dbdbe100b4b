import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from pipeline import prepare
from pipeline.artifacts.images import Picture, decode, encode_png


def params(**changes: object) -> prepare.Params:
    values = {"source": "digits", "size": 16, "channels": 3, "val_fraction": 0.2, "test_fraction": 0.3, "id": None}
    return prepare.Params.model_validate(values | {key: {} for key in ("near", "far", "val_near", "val_far")} | changes)


@pytest.mark.parametrize("shape", [(20, 40), (40, 20), (16, 31), (9, 7), (300, 200)])
def test_preprocessing_is_openoods(shape: tuple[int, int]) -> None:
    """Shorter side resized (bilinear), centre crop: torchvision's own transforms on the same image."""
    array = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    picture = Picture("k", encode_png(np.moveaxis(array, -1, 0)), 0)
    found = decode(prepare.encode(picture, params()).data, "k")
    reference = transforms.Compose([transforms.Resize(16), transforms.CenterCrop(16)])(Image.fromarray(array))
    np.testing.assert_array_equal(found, np.moveaxis(np.asarray(reference), -1, 0))


def test_an_image_that_fits_keeps_its_bytes_and_grey_becomes_colour() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    picture = Picture("k", encode_png(grey), 0)
    assert prepare.encode(picture, params(channels=1)) is picture
    np.testing.assert_array_equal(decode(prepare.encode(picture, params()).data, "k"), np.repeat(grey, 3, axis=0))


def test_splits_are_stratified_disjoint_and_follow_the_seed() -> None:
    pictures = [Picture(f"{label}-{i}", b"", label) for label in (0, 1) for i in range(50)]
    parts = prepare.split(pictures, params(), seed=3)
    assert {name: len(part) for name, part in parts.items()} == {"train": 50, "val": 20, "test": 30}
    assert all(sum(picture.label for picture in part) == len(part) // 2 for part in parts.values())
    keys = [picture.key for part in parts.values() for picture in part]
    assert sorted(keys) == sorted(picture.key for picture in pictures)
    assert prepare.split(pictures, params(), seed=3) == parts != prepare.split(pictures, params(), seed=4)


def test_copies_of_the_same_bytes_are_dropped_before_splitting() -> None:
    pictures = [Picture("a", b"1", 0), Picture("b", b"2", 0), Picture("c", b"1", 0), Picture("d", b"1", 1)]
    assert [picture.key for picture in prepare.unique(pictures)] == ["a", "b"]
