"""Prediction and export, with a small model whose answers are known by hand."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.artifacts import models
from pipeline.artifacts.files import write_json
from pipeline.errors import UserError
from pipeline.learning.networks import Classifier
from pipeline.serving import open_set, predict
from pipeline.sources.preprocess import conform

LINEAR, COSFACE = {"kind": "linear"}, {"kind": "cosface", "scale": 30.0, "margin": 0.35}


def save(folder: Path, head: dict[str, Any] = LINEAR, channels: int = 3, threshold: float = -0.5) -> Path:
    torch.manual_seed(0)
    model = Classifier("wrn-10-1", head, ["cat", "dog", "élan"], 16, channels, [0.5] * channels, [0.2] * channels)
    model.save_pretrained(folder)
    score = "msp" if head is LINEAR else "max-cosine"
    write_json(folder / "detector.json", {"score": score, "threshold": threshold, "id_pass_rate": 0.95})
    (folder / "README.md").write_text("# a card")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path / "model")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder, random = tmp_path / "photos", np.random.default_rng(0)
    (folder / "more").mkdir(parents=True)
    for i in range(7):
        array = random.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)
        Image.fromarray(array).save(folder / ("more" if i % 2 else ".") / f"{i}.png")
    return folder


def lines(*arguments: object) -> tuple[int, list[dict[str, Any]]]:
    done = CliRunner().invoke(app, ["predict", "--json", *map(str, arguments)])
    return done.exit_code, [json.loads(text) for text in done.stdout.splitlines()]


def test_predictions_are_the_models_own(model: Path, photos: Path) -> None:
    status, rows = lines(photos, "--model", model, "--batch", 3)
    classifier = models.load(Classifier, model)
    assert status == 0 and len(rows) == 7
    for row in rows:
        pixels = np.moveaxis(np.asarray(Image.open(row["path"])), -1, 0)
        images = torch.from_numpy(conform(pixels, "", 16, 3).copy())[None] / 255
        probabilities = classifier(images)[0].softmax(dim=1)[0]
        assert row["class"] == classifier.classes[int(probabilities.argmax())]
        assert row["confidence"] == pytest.approx(float(probabilities.max()), abs=1e-5)
        assert row["score"] == pytest.approx(-float(probabilities.max()), abs=1e-5)
        assert row["verdict"] == ("unknown" if row["score"] > -0.5 else "known")


@pytest.mark.parametrize("threshold", [-2.0, 2.0])
def test_the_stored_threshold_decides(tmp_path: Path, photos: Path, threshold: float) -> None:
    folder = save(tmp_path / "other", COSFACE, threshold=threshold)
    rows = lines(photos, "--model", folder)[1]
    assert {row["verdict"] for row in rows} == {"unknown" if threshold < 0 else "known"}
    assert all(-1 <= row["score"] <= 1 for row in rows)


def test_batches_do_not_matter(model: Path, photos: Path) -> None:
    one, many = (lines(photos, "--model", model, "--batch", batch)[1] for batch in (1, 100))
    for own, other in zip(one, many, strict=True):
        assert own["path"] == other["path"] and own["score"] == pytest.approx(other["score"], abs=1e-6)


def test_files_folders_and_globs_each_once(photos: Path) -> None:
    everything = predict.find([str(photos)])
    assert len(everything) == 7
    assert predict.find([str(photos / "*.png"), str(photos)])[:4] == sorted(photos.glob("*.png"))
    assert len(predict.find([str(photos / "**/*.png"), str(photos / "0.png")])) == 7
    with pytest.raises(UserError, match="no such file, folder or glob"):
        predict.find([str(photos / "*.gif")])
    (photos / "empty").mkdir()
    with pytest.raises(UserError, match="no image; expected files that end in"):
        predict.find([str(photos / "empty")])


def test_what_cannot_be_read_is_named_and_skipped(model: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "0.png").write_bytes(b"no image")
    (photos / "2.png").write_bytes((photos / "2.png").read_bytes()[:500])
    Image.new("I;16", (16, 16)).save(photos / "deep.png")
    status, rows = lines(photos, "--model", model, "--batch", 2)
    errors = {Path(row["path"]).name: row["error"] for row in rows if "error" in row}
    assert status == 1 and len(rows) == 8
    assert errors["0.png"] == "not a readable image (of no known format); repair or remove the file"
    assert "truncated" in errors["2.png"] and "I;16" in errors["deep.png"]
    done = CliRunner().invoke(app, ["predict", str(photos), "--model", str(model)])
    assert done.exit_code == 1 and "3 of 8 files were skipped" in str(done.exception)
    assert done.stdout.splitlines()[0].split() == ["verdict", "sure", "score", "class", "path"]
    target = tmp_path / "said.parquet"
    done = CliRunner().invoke(app, ["predict", str(photos), "--model", str(model), "--parquet", str(target)])
    table = pq.read_table(target).to_pylist()
    assert done.exit_code == 1 and len(table) == 8 and sum(row["error"] is not None for row in table) == 3
    assert {row["class"] for row in table} - {None} <= {"cat", "dog", "élan"}


def test_nothing_readable_at_all(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    status, rows = lines(tmp_path / "a.png", "--model", model)
    assert status == 1 and "error" in rows[0]


def test_a_colour_image_for_a_grey_model_is_skipped(tmp_path: Path, photos: Path) -> None:
    status, rows = lines(photos, "--model", save(tmp_path / "grey", channels=1))
    assert status == 1 and all("a colour image, expected grey" in row["error"] for row in rows)


def test_thousands_of_files_are_never_in_memory_at_once(model: Path, photos: Path) -> None:
    loaded = open_set.load(str(model), None)
    read: list[Path] = []
    original = predict._read

    def counting(path: Path, classifier: Classifier) -> Any:
        read.append(path)
        return original(path, classifier)

    paths = predict.find([str(photos)]) * 300
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "_read", counting)
        rows = predict.predict(loaded, paths, batch=10)
        for _ in range(25):
            next(rows)
        assert len(read) <= 25 + 3 * 10
        rows.close()


DETECTOR = '{"score": "msp", "threshold": 0.0, "id_pass_rate": 0.95}'


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("detector.json", "{", "not valid JSON"),
        ("detector.json", '{"score": "msp"}', "detector.json: threshold: Field required"),
        ("detector.json", DETECTOR.replace("msp", "energy"), "detector.json: score: Input should be 'msp'"),
        (  # of before the rate was renamed
            "detector.json", DETECTOR.replace("id_pass_rate", "id_true_positive_rate"),
            "detector.json: id_pass_rate: Field required; train the model again, or get a newer one",
        ),
        ("detector.json", None, "not found"),
        ("model.safetensors", None, "no safetensors weights"),
        ("config.json", "{}", "cannot be loaded as a model"),
        ("config.json", None, "config.json: not found"),
    ],
)  # fmt: skip
def test_a_damaged_model_is_named(model: Path, photos: Path, name: str, content: str | None, words: str) -> None:
    (model / name).unlink()
    if content is not None:
        (model / name).write_text(content)
    with pytest.raises(UserError, match=words):
        open_set.load(str(model), None)


def test_a_model_from_the_hub_needs_its_commit() -> None:
    with pytest.raises(UserError, match="no such folder; .* name a model of the Hub with its --revision"):
        open_set.load("someone/some-model", None)
    with pytest.raises(UserError, match="revision 'main', expected the 40-digit commit"):
        open_set.load("someone/some-model", "main")


@pytest.mark.parametrize("head", [LINEAR, COSFACE], ids=["msp", "max-cosine"])
def test_the_exported_file_says_the_same_at_any_batch_size(tmp_path: Path, head: dict[str, Any]) -> None:
    import onnxruntime

    folder = save(tmp_path / "model", head)
    done = CliRunner().invoke(app, ["export", str(tmp_path / "m.onnx"), "--model", str(folder)])
    assert done.exit_code == 0, done.exception
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    loaded = open_set.load(str(folder), None)
    for n in (1, 5):
        images = torch.rand(n, 3, 16, 16)
        probabilities, scores, unknown = session.run(None, {"images": images.numpy()})
        expected = [part.detach().numpy() for part in loaded(images)]
        np.testing.assert_allclose(probabilities, expected[0], atol=1e-5)
        np.testing.assert_allclose(scores, expected[1], atol=1e-5)
        assert unknown.dtype == bool and unknown.tolist() == (scores > -0.5).tolist()
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == ["cat", "dog", "élan"] and float(about["threshold"]) == -0.5


def test_a_pushed_model_is_the_whole_folder(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Api:
        def create_repo(self, repository: str, *, repo_type: str, exist_ok: bool) -> None:
            assert (repository, repo_type, exist_ok) == ("me/classifier", "model", True)

        def upload_folder(self, *, folder_path: Path, allow_patterns: list[str], **_: Any) -> SimpleNamespace:
            (tmp_path / "hub").mkdir()
            for name in allow_patterns:
                shutil.copy(folder_path / name, tmp_path / "hub" / name)
            return SimpleNamespace(oid="c" * 40)

    monkeypatch.setattr(models, "HfApi", Api)
    done = CliRunner().invoke(app, ["push", "me/classifier", "--model", str(model)])
    assert done.exit_code == 0 and "c" * 40 in done.stdout
    assert open_set.load(str(tmp_path / "hub"), None).detector.score == "msp"
    (model / "detector.json").unlink()
    with pytest.raises(UserError, match=r"no detector\.json"):
        models.push(model, "me/classifier")
