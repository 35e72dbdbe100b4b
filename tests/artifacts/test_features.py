from pathlib import Path

import pytest
import torch

from pipeline.artifacts import features
from pipeline.artifacts.features import FeatureFile, Rows
from pipeline.artifacts.images import ROW_GROUP
from pipeline.runtime.errors import UserError

ABOUT = {"classes": ["a", "b"], "role": "id", "preprocessing": {"resize": 8}, "shape": [3, 8, 8]}


def test_features_come_back_as_they_were_written_piece_by_piece(tmp_path: Path) -> None:
    total = ROW_GROUP + 7
    keys, labels, values = [str(i) for i in range(total)], torch.arange(total) % 2, torch.randn(total, 5)
    parts = [(keys[:10], labels[:10], values[:10]), (keys[10:], labels[10:], values[10:])]
    features.write(tmp_path / "train.arrow", parts, ABOUT)
    file = FeatureFile(tmp_path / "train.arrow")
    assert (file.classes, file.role, file.shape, file.width) == (["a", "b"], "id", (3, 8, 8), 5)
    assert file.sizes == [ROW_GROUP, 7] and file.preprocessing.resize == 8
    loaded = [file.load(piece) for piece in range(2)]
    assert torch.cat([part for part, _ in loaded]).equal(values)
    assert torch.cat([own for _, own in loaded]).equal(labels)
    assert [key for piece in range(2) for key in file.names(piece)[0]] == keys
    assert Rows(tmp_path / "train.arrow").pick(["9", "1004", "9"]).equal(values[[9, 1004, 9]])


def test_what_is_missing_or_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.arrow: not found; run `dvc repro features`"):
        FeatureFile(tmp_path / "train.arrow")
    features.write(tmp_path / "x.arrow", [(["a"], torch.zeros(1).long(), torch.zeros(1, 3))], {"classes": ["a"]})
    with pytest.raises(UserError, match="not features of images"):
        FeatureFile(tmp_path / "x.arrow")
    with pytest.raises(UserError, match="no features of b; run `dvc repro features`"):
        Rows(tmp_path / "x.arrow").pick(["a", "b"])
