"""A user's own images, from a folder of class folders to a verdict on new ones; no OOD set, every stage, `predict`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from pipeline.__main__ import app
from tests.conftest import run_stages


def photo(kind: str, random: np.random.Generator) -> np.ndarray:
    """Stripes across, stripes down, or a disc, of any colour and place, with some noise."""
    rows, columns = np.mgrid[:24, :30]
    at, colour = random.integers(0, 6), random.integers(80, 256, 3)
    shape = {
        "across": (rows + at) % 6 < 3,
        "down": (columns + at) % 6 < 3,
        "disc": (rows - 12) ** 2 + (columns - 15) ** 2 < 60 + 5 * at,
    }[kind]
    return np.clip(shape[..., None] * colour + random.normal(0, 12, (24, 30, 3)), 0, 255).astype(np.uint8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for kind in ("across", "down", "disc"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for i in range(50):
            Image.fromarray(photo(kind, random)).save(tmp_path / "photos" / kind / f"{i}.jpg", quality=95)
    return tmp_path / "photos"


def cut_down(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The preset for seconds rather than minutes."""
    settings["prepare"]["folder"] |= {"id": str(folder), "size": 16, "resize": 16}
    settings["autoencoder"] |= {"size": 16, "widths": [8, 16], "steps": 40}
    settings["teacher"] |= {"steps": 60, "network": "wrn-10-1", "shift": 1}
    settings["boundary"] |= {"count": 160, "draws": 8, "anchors": 5, "neighbours": 5}
    settings["diffusion"] |= {"steps": 8, "widths": [8, 16]}
    settings["mixup"] |= {"synthetic_id": 60, "steps": 2, "batch": 60}
    settings["shards"] |= {"per_method": 60, "neighbours": 5, "filters": ["non-finite", "flat"], "max_id_like": 1.0}
    settings["train"] |= {"auxiliary_count": 60, "steps": 80, "network": "wrn-10-1", "shift": 1}
    return settings


def test_a_folder_becomes_a_classifier_that_knows_its_classes(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["preset", "folder"]).exit_code == 0
    settings = cut_down(yaml.safe_load(Path("params.yaml").read_text()), photos)
    Path("params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    run_stages(settings)
    assert "No OOD test set was given" in Path("report/index.html").read_text()
    random, new = np.random.default_rng(1), tmp_path / "new"
    new.mkdir()
    for kind in ("across", "down", "disc"):
        for i in range(10):
            Image.fromarray(photo(kind, random)).save(new / f"{kind}-{i}.png")
    done = CliRunner().invoke(app, ["predict", str(new), "--json"])
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 0 and len(rows) == 30
    right = [Path(row["path"]).name.startswith(row["class"]) for row in rows]
    assert sum(right) >= 27
    assert sum(row["verdict"] == "known" for row in rows) >= 20
