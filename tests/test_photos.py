# ruff: noqa: F811  fixtures of test_folder
"""Preset `photos` on small photographs: features once, a shipped sum of scores, classes kept aside, a page."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from pipeline import STAGES
from pipeline.__main__ import _run, app
from pipeline.artifacts import lite0, outliers
from pipeline.artifacts.images import ImageFile
from pipeline.presets import compose
from tests.test_folder import photo, photos, place, write  # noqa: F401

pytestmark = pytest.mark.skipif(find_spec(lite0.PACKAGE) is None, reason="penumbra[photos] is not installed")


def cut_down(folder: Path) -> dict[str, Any]:
    assert CliRunner().invoke(app, ["preset", "photos", "--force"]).exit_code == 0
    settings = yaml.safe_load(Path("params.yaml").read_text())
    own = {"id": str(folder), "size": 32, "resize": 32, "hold_out": {"near": 0.34, "val_near": 0.0, "splits": 2}}
    settings["prepare"]["folder"] |= own
    settings["train"] |= {"steps": 40, "batch": 32, "warmup": 5, "precision": "float32"}
    settings["teacher"]["precision"] = "float32"
    settings["score"]["detectors"] = {"msp": {}, "rmd++": {"shrinkage": 0.6}, "msp+rmd++": {}}
    return settings


def run(settings: dict[str, Any], *stages: str) -> None:
    write(settings)
    for stage in stages or STAGES:
        _run(stage)


def test_photographs_become_a_model_that_says_what_score_says(
    photos: Path,
    place: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = cut_down(photos)
    run(settings)
    for nothing in ("data/models/autoencoder", "data/latents", "data/models/teacher", "data/models/diffusion"):
        assert not list(Path(nothing).iterdir())
    for folder in ("data/outliers", "data/controls"):
        assert outliers.verify(Path(folder))["methods"] == {}

    # predict, the graph, and the stage `score` say the same of the same pixels
    test, scores = ImageFile(Path("data/images/test.parquet")), pd.read_parquet("metrics/scores.parquet")
    own = scores[scores["set"] == "test"].set_index("key")
    assert own["own"].to_numpy() == pytest.approx(own["msp+rmd++"].to_numpy(), abs=1e-9)
    found = test.read(0)
    for i in (0, 5, 11):
        Image.fromarray(np.moveaxis(found.pixels[i].numpy(), 0, -1)).save(f"{i}.png")
        done = CliRunner().invoke(app, ["predict", f"{i}.png", "--json"])
        [row] = [json.loads(line) for line in done.stdout.splitlines()]
        assert row["score"] == pytest.approx(own.loc[found.keys[i], "own"], abs=1e-4)
        assert set(row["parts"]) == {"msp", "rmd++"} and min(row["parts"].values()) > 0
    assert CliRunner().invoke(app, ["export", "model.onnx"]).exit_code == 0
    session = onnxruntime.InferenceSession("model.onnx")
    asked = {"images": np.asarray(Image.open("11.png"))[None], "false_alarms": np.array(0.05)}
    said = session.run(["score", "part_p_values"], asked)
    assert row["score"] == pytest.approx(float(said[0][0]), abs=1e-4)
    assert list(row["parts"].values()) == pytest.approx(said[1][0].tolist(), abs=1e-6)

    # a class that was kept aside was never trained on, and is what is called near
    told = json.loads(Path("metrics/hold_out.json").read_text())["baseline"]
    assert told["splits"] == 2 and len(told["classes"]) == 2
    assert {"near"} == set(told["detectors"]["own"]) and 0 <= told["noticed"]["mean"] <= 100
    for split, about in enumerate(json.loads(Path("data/images/hold_out.json").read_text())):
        rows = pd.read_parquet(f"data/hold_out/baseline/s0-{split}/scores.parquet")
        assert set(rows.loc[rows["set"] == "held-out", "of_class"]) == set(about["near"])
        assert not set(rows.loc[rows["set"] == "test", "of_class"]) & set(about["near"])
    page = Path("report/index.html").read_text()
    assert "never shown" in page and all(name in page for name in told["classes"])

    # another score is fitted to the same weights
    weights = Path("data/models/recipes/baseline/s0/model.safetensors").read_bytes()
    settings["train"]["score"] = {"msp": {}}
    capsys.readouterr()
    run(settings, "train")
    assert "validation images right" in (said := capsys.readouterr().out) and "baseline seed 0: 40/40" not in said
    assert Path("data/models/recipes/baseline/s0/model.safetensors").read_bytes() == weights
    assert json.loads(Path("data/models/recipes/baseline/s0/detector.json").read_text())["score"] == {"msp": {}}

    # one more seed trains itself alone, and no feature is computed again
    before = {path: path.stat().st_mtime_ns for path in Path("data/features").rglob("*.arrow")}
    settings["train"]["seeds"] = [0, 1]
    capsys.readouterr()
    run(settings, "fingerprint", "train", "infer", "hold_out")
    assert "train: 1 of 2 classifiers are taken over" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in Path("data/features").rglob("*.arrow")}
    assert {path.name for path in Path("data/hold_out/baseline").iterdir()} == {"s0-0", "s0-1", "s1-0", "s1-1"}


def test_outliers_are_made_in_features_while_recipes_train(photos: Path, place: Path) -> None:
    settings = cut_down(photos)
    kinds = ["mixture", "permuted", "hamiltonian"]
    recipes = yaml.safe_load(compose("photos-ablations"))["recipes"]
    settings["recipes"] = {name: recipes[name] for name in ["baseline", *kinds]}
    settings["train"]["steps"] = 10
    settings["prepare"]["folder"]["hold_out"]["splits"] = 1
    run(settings, "fingerprint", "prepare", "teacher", "shards", "features", "train", "hold_out")
    assert list(json.loads(Path("metrics/hold_out.json").read_text())) == ["baseline", *kinds]
    Path("page.md").write_text("<!-- table held-out run=photos -->\n<!-- end -->\n")
    assert CliRunner().invoke(app, ["tables", "page.md", "--run", "photos"]).exit_code == 0  # before anything is scored
    rows = [line.split(" |")[0] for line in Path("page.md").read_text().splitlines()[3:7]]
    assert rows == [f"| {name}" for name in ["baseline", *kinds]]
    weights = [Path(f"data/models/recipes/{name}/s0/model.safetensors").read_bytes() for name in ["baseline", *kinds]]
    assert len(set(weights)) == 4
    for name in kinds:
        assert list(Path(f"data/curves/{name}/s0").rglob("outlier_exposure.tsv"))
    shutil.rmtree("data/models/recipes/hamiltonian")
    run(settings, "train")
    assert Path("data/models/recipes/hamiltonian/s0/model.safetensors").read_bytes() == weights[-1]


def test_real_unknown_photographs_are_trained_on_as_features(photos: Path, place: Path) -> None:
    settings = cut_down(photos)
    settings["prepare"]["folder"] |= {"unknown": str(place / "checks"), "hold_out": None}
    settings["methods"], settings["shards"]["per_method"] = ["unknown"], 30
    settings["train"]["auxiliary_count"] = 30
    settings["teacher"] |= {"steps": 4, "warmup": 1, "batch": 8, "augmentation": "shift", "shift": 0}
    settings["encode"]["precision"] = "float32"
    exposure = {"auxiliary": ["unknown"], "outlier_exposure": {"weight": 0.5, "temperature": 1.0}}
    settings["recipes"]["unknown"] = exposure
    run(settings, *STAGES[: STAGES.index("infer")])
    new = [str(path) for path in sorted((place / "checks").iterdir())]
    sure = {}
    for recipe in ("baseline", "unknown"):
        done = CliRunner().invoke(app, ["predict", *new, "--json", "--model", f"data/models/recipes/{recipe}/s0"])
        sure[recipe] = np.mean([json.loads(line)["confidence"] for line in done.stdout.splitlines()])
    assert sure["unknown"] < sure["baseline"] - 0.05


def test_fine_tuning_takes_images_and_ends_the_same_after_a_kill(
    photos: Path,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pipeline.training.checkpoints import Checkpoint

    settings = cut_down(photos)
    settings["prepare"]["folder"]["hold_out"] = None
    settings["train"] |= {
        "backbone": "last-stage", "augmentation": "photos", "steps": 6, "batch": 8, "warmup": 1,
        "backbone_learning_rate": 0.01, "checkpoint_every": 2,
    }  # fmt: skip
    run(settings, "fingerprint", "prepare", "teacher", "shards", "features", "train")
    assert not list(Path("data/features").iterdir())
    weights = Path("data/models/recipes/baseline/s0/model.safetensors")
    whole = weights.read_bytes()
    weights.with_name("training.json").unlink()

    class Killed(BaseException):
        pass

    save = Checkpoint.save

    def killed(self: Checkpoint, step: int, *rest: Any) -> None:
        save(self, step, *rest)
        if step == 4:
            raise Killed

    monkeypatch.setattr(Checkpoint, "save", killed)
    with pytest.raises(Killed):
        run(settings, "train")
    monkeypatch.setattr(Checkpoint, "save", save)
    run(settings, "train")
    assert weights.read_bytes() == whole
    frozen, tuned = (path.read_bytes() for path in (next(Path("data/weights").iterdir()), weights))
    assert frozen != tuned


def test_the_page_shows_the_strangest_first_and_what_they_are_like(photos: Path, place: Path) -> None:
    settings = cut_down(photos)
    settings["prepare"]["folder"]["hold_out"] = None
    run(settings, *STAGES[: STAGES.index("score")])
    Path("new").mkdir()
    random = np.random.default_rng(3)
    for i, kind in enumerate(["across", "disc"]):
        Image.fromarray(photo(kind, random)).save(f"new/{kind}-{i}.jpg")
    Image.fromarray(random.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save("new/noise.png")
    Path("new/broken.jpg").write_bytes(b"no image")
    done = CliRunner().invoke(app, ["predict", "new", "--html", "page.html"])
    assert done.exit_code == 1 and "1 of 4 files were skipped" in str(done.exception)
    page = Path("page.html").read_text()
    assert page.count("<li>") == 3 and page.count('<figure><img src="data:image/jpeg') == 9
    assert "<script" not in page and "http://" not in page and "https://" not in page
    rows = [json.loads(line) for line in CliRunner().invoke(app, ["predict", "new", "--json"]).stdout.splitlines()]
    judged = sorted((row for row in rows if "error" not in row), key=lambda row: (row["p_value"], -row["score"]))
    places = [page.index(f'class="path">{row["path"]}<') for row in judged]
    assert places == sorted(places) and "1 files could not be read" in page
    again = CliRunner().invoke(app, ["predict", "new/noise.png", "--html", "page.html"])
    assert again.exit_code == 1 and "page.html" in str(again.exception)
    assert CliRunner().invoke(app, ["predict", "new/noise.png", "--html", "page.html", "--force"]).exit_code == 0
    Path("mine.html").write_text("<html>mine</html>")
    refused = CliRunner().invoke(app, ["predict", "new/noise.png", "--html", "mine.html", "--force"])
    assert refused.exit_code == 1 and Path("mine.html").read_text() == "<html>mine</html>"
