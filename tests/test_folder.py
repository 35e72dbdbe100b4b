"""A user's own images, from a folder as people have them to verdicts on new ones: every stage, `predict`, ONNX."""

import importlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from pipeline.__main__ import _run, app
from tests.conftest import in_fast_precision, run_stages


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
    """Three classes, one of them a link, one with folders inside; odd names, and a zip that was left behind."""
    random = np.random.default_rng(0)
    places = {"across": "photos/across", "down": "photos/down/by day", "disc": "elsewhere/disc"}
    for kind, place in places.items():
        (tmp_path / place).mkdir(parents=True)
        for i in range(50):
            name = os.fsdecode(b"\xe9 1.jpg") if i == 7 else f"{i} {kind}́ $(x).jpg"
            Image.fromarray(photo(kind, random)).save(tmp_path / place / name, quality=95)
    (tmp_path / "photos/disc").symlink_to(tmp_path / "elsewhere/disc")
    (tmp_path / "photos/photos.zip").write_bytes(b"PK")
    return tmp_path / "photos"


def cut_down(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The preset for seconds rather than minutes."""
    in_fast_precision(settings)
    settings["prepare"]["folder"] |= {"id": str(folder), "size": 16, "resize": 16}
    settings["autoencoder"] |= {"size": 16, "widths": [8, 16], "steps": 40}
    settings["teacher"] |= {"steps": 60, "network": "wrn-10-1", "shift": 1}
    settings["sample"]["boundary"] |= {"count": 160, "perturbations": 8, "anchors": 5, "neighbours": 5}
    settings["shards"] |= {"per_method": 60, "neighbours": 5, "filters": ["non-finite", "flat"], "max_id_like": 1.0}
    settings["train"] |= {"auxiliary_count": 60, "steps": 80, "network": "wrn-10-1", "shift": 1}
    return settings


@pytest.fixture
def place(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with photographs, OOD photographs beside them, and a params.yaml of preset `folder`."""
    random = np.random.default_rng(2)
    for name, count in (("checks", 30), ("noise", 30)):
        (tmp_path / name).mkdir()
        for i in range(count):
            pixels = random.integers(0, 256, (24, 24, 3)) if name == "noise" else np.kron(
                random.integers(0, 2, (6, 6, 1)), np.full((4, 4, 3), 200)
            )  # fmt: skip
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["preset", "folder"]).exit_code == 0
    return tmp_path


def write(settings: dict[str, Any]) -> dict[str, Any]:
    Path("params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return settings


def test_a_folder_becomes_a_classifier_that_knows_its_classes(photos: Path, place: Path) -> None:
    """With no OOD set; then, the models as they are, with near sets alone and none for choices, and far sets alone."""
    settings = write(cut_down(yaml.safe_load(Path("params.yaml").read_text()), photos))
    run_stages(settings)
    assert "No OOD test set was given" in Path("report/index.html").read_text()
    random, new = np.random.default_rng(1), place / "new"
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
    assert CliRunner().invoke(app, ["export", "model.onnx"]).exit_code == 0
    session = onnxruntime.InferenceSession("model.onnx")
    for row in rows[::5]:
        asked = {"images": np.asarray(Image.open(row["path"]))[None], "false_alarms": np.array(0.05)}
        score = session.run(["score"], asked)[0]
        assert row["score"] == pytest.approx(float(score[0]), abs=1e-4)
    for group, choices in (("near", None), ("far", "val_far")):
        settings["prepare"]["folder"] |= {"near": {}, "far": {}, "val_near": {}, "val_far": {}}
        settings["prepare"]["folder"][group] = {"checks": str(place / "checks")}
        if choices:
            settings["prepare"]["folder"][choices] = {"noise": str(place / "noise")}
        write(settings)
        for stage in ("prepare", "infer", "score", "report"):
            _run(stage)
        summary = json.loads(Path("metrics/summary.json").read_text())
        other = "far" if group == "near" else "near"
        assert all(group in own and other not in own for entry in summary.values() for own in entry.values())
        tables, page = Path("report/results.md").read_text(), Path("report/index.html").read_text()
        assert f"{group} AUROC" in tables and "checks" in page


def test_real_unknown_images_are_trained_on_and_never_tested(photos: Path, place: Path) -> None:
    settings = cut_down(yaml.safe_load(Path("params.yaml").read_text()), photos)
    settings["prepare"]["folder"] |= {"unknown": str(place / "checks"), "near": {"noise": str(place / "noise")}}
    settings["methods"] = ["unknown"]
    settings["recipes"] = {
        "baseline": {},
        "penumbra": {"auxiliary": ["unknown"], "outlier_exposure": {"weight": 0.5, "temperature": 1.0}},
    }
    settings["score"]["detectors"] = {"msp": {}}
    run_stages(write(settings))
    scores = pd.read_parquet("metrics/scores.parquet")
    assert set(scores["set"]) == {"val", "test", "noise", "decoded-test"}
    new = [str(path) for path in sorted((place / "checks").iterdir())]
    confidence = {}
    for recipe in settings["recipes"]:
        done = CliRunner().invoke(app, ["predict", *new, "--json", "--model", f"data/models/recipes/{recipe}/s0"])
        confidence[recipe] = np.mean([json.loads(line)["confidence"] for line in done.stdout.splitlines()])
    assert confidence["penumbra"] < confidence["baseline"] - 0.1


def test_classes_are_kept_aside_by_recipes_that_have_not_seen_them(
    photos: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = cut_down(yaml.safe_load(Path("params.yaml").read_text()), photos)
    settings["prepare"]["folder"] |= {"hold_out": {"near": 0.34, "val_near": 0.0, "splits": 2}}
    settings["train"] |= {"steps": 10, "warmup": 2}
    settings["score"]["detectors"] = {"msp": {}}
    settings |= {"methods": [], "shipped": "baseline"}
    settings["recipes"] = {"baseline": {}, "distilled": {"logit_distillation": {"weight": 1.0, "temperature": 2.0}}}
    write(settings)
    for stage in ("fingerprint", "prepare", "shards", "features", "hold_out"):
        _run(stage)
    assert "hold_out: distilled: left out, for its teacher has seen all classes" in capsys.readouterr().out
    assert set(told := json.loads(Path("metrics/hold_out.json").read_text())) == {"baseline"}
    assert told["baseline"]["splits"] == 2
    for split, about in enumerate(json.loads(Path("data/images/hold_out.json").read_text())):
        rows = pd.read_parquet(f"data/hold_out/baseline/s0-{split}/scores.parquet")
        assert set(rows.loc[rows["set"] == "held-out", "of_class"]) == set(about["near"])
    kept = {path: path.stat().st_mtime_ns for path in Path("data/hold_out").rglob("*.parquet")}
    importlib.import_module("pipeline.hold_out").main()
    assert kept == {path: path.stat().st_mtime_ns for path in Path("data/hold_out").rglob("*.parquet")}
