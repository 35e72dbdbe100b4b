from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import UserError
from pipeline.sources import folder


def fill(path: Path, count: int, suffix: str = "png") -> Path:
    path.mkdir(parents=True)
    random = np.random.default_rng(len(path.name))
    for i in range(count):
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path / f"{i}.{suffix}")
    return path


def test_class_folders_of_any_name_are_classes(tmp_path: Path) -> None:
    names = ["my cat.1", "test", "train", "val", "[x] Ü"]
    for name in names:
        fill(tmp_path / "[id] *photos" / name, 3, "jpg")
    found = folder.load(tmp_path / "[id] *photos", {})
    assert sorted(found.classes) == sorted(names)
    assert len(found.pictures) == 15
    for picture in found.pictures:
        assert picture.key.split("/")[0] == found.classes[picture.label]
        assert picture.data == (tmp_path / "[id] *photos" / picture.key).read_bytes()  # the codec is kept


def test_ood_folders_have_no_labels_nested_or_not(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fill(tmp_path / "id" / name, 2)
    fill(tmp_path / "flat", 4)
    fill(tmp_path / "nested" / "x", 2)
    fill(tmp_path / "nested" / "test", 3)
    found = folder.load(tmp_path / "id", {"near": {"flat": tmp_path / "flat"}, "far": {"deep": tmp_path / "nested"}})
    assert {name: (ood.role, len(ood.pictures)) for name, ood in found.ood.items()} == {
        "flat": ("near", 4), "deep": ("far", 5),
    }  # fmt: skip
    assert {picture.label for ood in found.ood.values() for picture in ood.pictures} == {-1}


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    fill(tmp_path / "id" / "only", 3)
    with pytest.raises(UserError, match="found 1 class folders, expected at least 2"):
        folder.load(tmp_path / "id", {})
