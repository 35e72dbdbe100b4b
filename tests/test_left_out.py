"""A count of 0 leaves a method out: no work, no model, and a file that later stages find."""

import importlib
from pathlib import Path

import pytest
import torch
import yaml

from pipeline import mixup
from pipeline.artifacts import candidates, models
from pipeline.runtime.layout import CANDIDATES
from pipeline.settings import check
from pipeline.synthesis.unet import ConditionalUNet
from tests.conftest import toy_params


def leave_out(method: str) -> None:
    """Write params.yaml with no candidates of a method."""
    settings = toy_params()
    settings[method]["count"] = 0
    settings["shards"]["methods"].remove(method)
    settings["recipes"] = {"baseline": {}}
    Path("params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    check.check()


@pytest.mark.parametrize("method", ["boundary", "crossing", "embedding"])
def test_what_is_left_out_reads_nothing(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    leave_out(method)
    importlib.import_module(f"pipeline.{method}").main()
    assert len(candidates.load(CANDIDATES / f"{method}.arrow")) == 0


def test_the_control_is_sampled_without_mixtures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    leave_out("mixup")
    torch.manual_seed(0)
    unet = ConditionalUNet(classes=3, features=5, channels=2, size=4, widths=[8, 16])
    loaded = {"diffusion": unet.eval().requires_grad_(False), "autoencoder": None}
    monkeypatch.setattr(models, "load", lambda kind, folder: loaded[folder.name])
    monkeypatch.setattr(mixup, "fingerprint", lambda *paths: "")
    monkeypatch.setattr(mixup, "to_raw_latents", lambda autoencoder, latents: latents)
    mixup.main()
    assert len(candidates.load(CANDIDATES / "mixup.arrow")) == 0
    assert len(candidates.load(CANDIDATES / "synthetic-id.arrow")) == toy_params()["mixup"]["synthetic_id"]
