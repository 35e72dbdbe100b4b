from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import UserError
from pipeline.sources import folder


def fill(path: Path, count: int, suffix: str = "png") -> Path:
    path.mkdir(parents=True)
    random = np.random.default_rng([len(path.name), *path.name.encode()])
    for i in range(count):
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path / f"{i}.{suffix}")
    return path


def settings(images: Path, **changes: Any) -> folder.Settings:
    ood: dict[str, Any] = {"near": {}, "far": {}, "val_near": {}, "val_far": {}}
    form = {"val_fraction": 0.2, "test_fraction": 0.2, "resize": 8, "size": 8, "channels": 3}
    return folder.Settings.model_validate({"id": str(images)} | ood | form | changes)


def test_class_folders_of_any_name_are_classes(tmp_path: Path) -> None:
    names = ["my cat.1", "test", "train", "val", "[x] Ü"]
    for name in names:
        fill(tmp_path / "[id] *photos" / name, 10, "jpg")
    found = folder.load(settings(tmp_path / "[id] *photos"), 0)
    assert sorted(found.classes) == sorted(names)
    assert sum(map(len, found.splits.values())) == 50
    for items in found.splits.values():
        for item in items:
            assert item.key.split("/")[0] == found.classes[item.label]
            assert item.read() == (tmp_path / "[id] *photos" / item.key).read_bytes()  # the codec is kept


def test_ood_folders_have_no_labels_nested_or_not(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fill(tmp_path / "id" / name, 10)
    fill(tmp_path / "flat", 4)
    fill(tmp_path / "nested" / "x", 2)
    fill(tmp_path / "nested" / "test", 3)
    sets = {"near": {"flat": str(tmp_path / "flat")}, "far": {"deep": str(tmp_path / "nested")}}
    found = folder.load(settings(tmp_path / "id", **sets), 0)
    assert {name: (ood.role, len(ood.items)) for name, ood in found.ood.items()} == {
        "flat": ("near", 4), "deep": ("far", 5),
    }  # fmt: skip
    assert {item.label for ood in found.ood.values() for item in ood.items} == {-1}


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    fill(tmp_path / "id" / "only", 30)
    with pytest.raises(UserError, match="found 1 classes, expected at least 2"):
        folder.load(settings(tmp_path / "id"), 0)
