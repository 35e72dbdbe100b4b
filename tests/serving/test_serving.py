"""Prediction and export, with a small model whose answers are known by hand."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torchvision.transforms import functional as transforms
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.artifacts import models
from pipeline.artifacts.detector import Detector, Settings, write
from pipeline.artifacts.model_card import model_card
from pipeline.classifier.networks import Classifier
from pipeline.hub.models import push
from pipeline.runtime.errors import UserError
from pipeline.serving import open_set, predict
from pipeline.serving.resize import Preprocess
from pipeline.sources.preprocess import preprocess
from tests.conftest import ROOT

AROUND = torch.linspace(-1, -0.3, 40).double()  # ID validation scores
LINEAR, COSFACE = {"kind": "linear"}, {"kind": "cosface", "scale": 30.0, "margin": 0.35}


def save(
    folder: Path,
    head: dict[str, Any] = LINEAR,
    channels: int = 3,
    id_scores: Tensor = AROUND,
    resize: int | None = None,
) -> Path:
    torch.manual_seed(0)
    model = Classifier(
        "wrn-10-1", head, ["cat", "dog", "élan"], 16, channels, [0.5] * channels, [0.2] * channels, resize
    )
    model.save_pretrained(folder)
    write(
        folder, Detector(Settings(score={"msp" if head is LINEAR else "max-cosine": {}}, false_alarms=0.3), id_scores)
    )
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
        images = torch.from_numpy(preprocess(pixels, 16, 3).copy())[None] / 255
        probabilities = classifier(images)[0].softmax(dim=1)[0]
        assert row["class"] == classifier.classes[int(probabilities.argmax())]
        assert row["confidence"] == pytest.approx(float(probabilities.max()), abs=1e-5)
        assert row["score"] == pytest.approx(-float(probabilities.max()), abs=1e-5)
        assert row["p_value"] == pytest.approx((1 + sum(AROUND.numpy() >= row["score"])) / 41)
        assert row["verdict"] == ("unknown" if row["p_value"] <= 0.3 else "known")


@pytest.mark.parametrize("id_score", [-2.0, 2.0])
def test_scores_of_id_validation_images_decide(tmp_path: Path, photos: Path, id_score: float) -> None:
    folder = save(tmp_path / "other", COSFACE, id_scores=torch.full((30,), id_score).double())
    rows = lines(photos, "--model", folder)[1]
    assert {row["verdict"] for row in rows} == {"unknown" if id_score < 0 else "known"}
    assert {row["p_value"] for row in rows} == {1 / 31 if id_score < 0 else 1.0}
    assert all(-1 <= row["score"] <= 1 for row in rows)


def test_the_rate_of_false_alarms_decides_where_it_is_asked_for(model: Path, photos: Path) -> None:
    ps = [row["p_value"] for row in lines(photos, "--model", model)[1]]
    for rate in (0.001, 0.05, 0.5, 0.999):
        rows = lines(photos, "--model", model, "--false-alarms", rate)[1]
        assert [row["verdict"] == "unknown" for row in rows] == [p <= rate for p in ps]
    for rate in (0, 1, -0.1, "nan"):
        done = CliRunner().invoke(app, ["predict", str(photos), "--model", str(model), "--false-alarms", str(rate)])
        assert isinstance(done.exception, UserError) and "above 0 and below 1" in str(done.exception)


@pytest.mark.parametrize(("rate", "enough"), [(0.05, True), (1 / 41, True), (0.02, False)])
def test_too_few_validation_images_for_a_rate_are_said(model: Path, photos: Path, rate: float, enough: bool) -> None:
    done = CliRunner().invoke(app, ["predict", str(photos), "--model", str(model), "--false-alarms", str(rate)])
    said = f"no image can be called unknown: 40 ID validation images, {round(1 / rate) - 1} are needed"
    assert (said in done.stderr) != enough


def test_batches_do_not_matter(model: Path, photos: Path) -> None:
    one, many = (lines(photos, "--model", model, "--batch", batch)[1] for batch in (1, 100))
    for own, other in zip(one, many, strict=True):
        assert own["path"] == other["path"] and own["score"] == pytest.approx(other["score"], abs=1e-6)


def test_files_folders_and_globs_each_once(photos: Path) -> None:
    everything = predict.find([str(photos)]).images
    assert len(everything) == 7
    assert predict.find([str(photos / "*.png"), str(photos)]).images[:4] == sorted(photos.glob("*.png"))
    assert len(predict.find([str(photos / "**/*.png"), str(photos / "0.png")]).images) == 7
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
    assert done.stdout.splitlines()[0].split() == ["verdict", "p", "sure", "score", "class", "path"]
    target = tmp_path / "said.parquet"
    done = CliRunner().invoke(app, ["predict", str(photos), "--model", str(model), "--parquet", str(target)])
    table = pq.read_table(target).to_pylist()
    assert done.exit_code == 1 and len(table) == 8 and sum(row["error"] is not None for row in table) == 3
    assert {row["class"] for row in table} - {None} <= {"cat", "dog", "élan"}


def test_nothing_readable_at_all(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    status, rows = lines(tmp_path / "a.png", "--model", model)
    assert status == 1 and "error" in rows[0]


def test_a_colour_image_for_a_grey_model_is_judged_by_its_luma(tmp_path: Path, photos: Path) -> None:
    folder = save(tmp_path / "grey", channels=1)
    status, rows = lines(photos, "--model", folder)
    classifier = models.load(Classifier, folder)
    assert status == 0 and len(rows) == 7
    for row in rows:
        luma = np.asarray(transforms.center_crop(transforms.resize(Image.open(row["path"]).convert("L"), [16]), [16]))
        probabilities = classifier(torch.from_numpy(luma.copy())[None, None] / 255)[0].softmax(dim=1)[0]
        assert row["confidence"] == pytest.approx(float(probabilities.max()), abs=1e-5)


def test_every_format_on_the_list_is_judged_and_the_rest_is_counted(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    (folder / ".thumbnails").mkdir(parents=True)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    for suffix in ("gif", "jfif", "jpe", "ppm", "heic", "avif", "webp", "tif", "JPG"):
        picture.save(folder / f"a.{suffix}")
    picture.save(folder / "b.mpo", "MPO", save_all=True, append_images=[picture])
    for name in (".thumbnails/a.png", "._0.png", "notes.txt", "Thumbs.db"):
        (folder / name).write_bytes(b"not an image")
    done = CliRunner().invoke(app, ["predict", "--json", str(folder), "--model", str(model)])
    rows = [json.loads(text) for text in done.stdout.splitlines()]
    assert done.exit_code == 0 and len(rows) == 10 and not any("error" in row for row in rows)
    first, last = done.stderr.splitlines()
    assert first == "left out .db: 1 (Thumbs.db); .txt: 1 (notes.txt); hidden: 2 (._0.png, .thumbnails)"
    assert " of 10 images are unknown" in last


def test_a_name_that_is_no_unicode_is_shown_and_written(model: Path, photos: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (photos / "0.png").rename(photos / name)
    (photos / os.fsdecode(b"\xff.png")).write_bytes(b"no image")
    command = [sys.executable, "-m", "pipeline", "predict", str(photos), "--model", str(model)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 1 and b"Traceback" not in done.stderr
    assert rb"caf\xe9.png" in done.stdout and rb"\xff.png: not a readable image" in done.stderr
    rows = lines(photos, "--model", model)[1]
    assert {Path(row["path"]).name for row in rows} >= {name}
    target = tmp_path / "said.parquet"
    CliRunner().invoke(app, ["predict", str(photos), "--model", str(model), "--parquet", str(target)])
    assert str(photos / r"caf\xe9.png") in pq.read_table(target).column("path").to_pylist()


def test_home_folders(model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(lines("~/photos", "--model=~/model")[1]) == 7


def test_thousands_of_files_are_never_in_memory_at_once(model: Path, photos: Path) -> None:
    loaded = open_set.load(str(model), None)
    read: list[Path] = []
    original = predict._read

    def counting(path: Path, classifier: Classifier) -> Any:
        read.append(path)
        return original(path, classifier)

    paths = predict.find([str(photos)]).images * 300
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "_read", counting)
        rows = predict.predict(loaded, paths, 10, 0.05)
        for _ in range(25):
            next(rows)
        assert len(read) <= 25 + 3 * 10
        rows.close()


DETECTOR = '{"score": {"msp": {}}, "false_alarms": 0.05}'


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("detector.json", "{", "not valid JSON"),
        ("detector.json", '{"score": {"msp": {}}}', "detector.json: false_alarms: Field required"),
        ("detector.json", DETECTOR.replace("msp", "best"), "score: 'best': unknown; expected some of msp"),
        ("detector.json", DETECTOR.replace("msp", "odin"), "detector.json: score: 'odin': unknown"),
        ("detector.json", DETECTOR.replace("msp", "openmax"), "'openmax': cannot be shipped with a model"),
        ("detector.json", DETECTOR.replace("msp", "knn"), "detector.safetensors: no tensor knn.known"),
        ("detector.json", DETECTOR.replace("{}", '{"a": 1}'), "score: msp {'a': 1}: .*train the model again"),
        ("detector.json", DETECTOR.replace("{}", '{}, "energy": {}'), "no tensor msp.id_scores"),
        ("detector.json", DETECTOR.replace("0.05", "1.5"), "detector.json: false_alarms: Input should be less than 1"),
        ("detector.json", None, "not found"),
        ("detector.safetensors", None, "detector.safetensors: not found; train the model again"),
        ("detector.safetensors", "x", "detector.safetensors: not readable"),
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


@pytest.mark.parametrize("scores", [[], [2.0, 1.0], [[1.0]], [0.0, float("nan")], [float("inf")]])
def test_scores_that_are_no_sorted_scores_are_refused(model: Path, scores: list[Any]) -> None:
    save_file({"id_scores": torch.tensor(scores)}, model / "detector.safetensors")
    with pytest.raises(UserError, match="id_scores are not finite numbers in ascending order"):
        open_set.load(str(model), None)


def test_a_model_from_the_hub_needs_its_commit() -> None:
    with pytest.raises(UserError, match="no such folder; .* name a model of the Hub with its --revision"):
        open_set.load("someone/some-model", None)
    with pytest.raises(UserError, match="revision 'main', expected the 40-digit commit"):
        open_set.load("someone/some-model", "main")


SIZES = [(20, 40), (40, 20), (37, 23), (16, 16), (7, 5), (1, 1), (3, 300), (255, 256), (64, 64)]


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 90), width=st.integers(1, 90), resize=st.integers(8, 40), cut=st.integers(0, 12),
    channels=st.sampled_from([1, 3]), seed=st.integers(0, 5),
)  # fmt: skip
def test_preprocessing_as_tensors_is_pillows_to_the_last_bit(
    height: int, width: int, resize: int, cut: int, channels: int, seed: int
) -> None:
    size = max(1, resize - cut)
    photo = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = torch.from_numpy(preprocess(np.moveaxis(photo, -1, 0), size, channels, resize).copy()) / 255
    found = Preprocess(resize, size, channels)(torch.from_numpy(photo)[None])[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("head", "channels", "resize"), [(LINEAR, 3, 20), (COSFACE, 3, 16), (LINEAR, 1, 24)], ids=["msp", "cosine", "grey"]
)
def test_the_exported_file_takes_photographs_and_says_what_predict_says(
    tmp_path: Path, head: dict[str, Any], channels: int, resize: int
) -> None:
    import onnxruntime

    folder = save(tmp_path / "model", head, channels, resize=resize)
    done = CliRunner().invoke(app, ["export", str(tmp_path / "m.onnx"), "--model", str(folder)])
    assert done.exit_code == 0, done.exception
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    random = np.random.default_rng(0)
    for i, (height, width) in enumerate(SIZES):
        photo = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(photo).save(tmp_path / f"{i}.png")
        asked = {"images": np.repeat(photo[None], 1 + i % 3, axis=0), "false_alarms": np.array(0.3)}
        probabilities, scores, ps, unknown, parts = session.run(None, asked)
        [row] = lines(tmp_path / f"{i}.png", "--model", folder)[1]
        assert row["confidence"] == pytest.approx(float(probabilities[-1].max()), abs=1e-5)
        assert row["score"] == pytest.approx(float(scores[-1]), abs=1e-5)
        assert row["class"] == ["cat", "dog", "élan"][int(probabilities[-1].argmax())]
        assert row["p_value"] == pytest.approx(float(ps[-1])) and ps.dtype == np.float64
        assert parts.tolist() == ps[:, None].tolist()
        assert unknown.dtype == bool and unknown.tolist() == (ps <= 0.3).tolist()
        assert not session.run(["unknown"], asked | {"false_alarms": np.array(0.001)})[0].any()
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == ["cat", "dog", "élan"] and float(about["false_alarms"]) == 0.3
    assert (about["resize"], about["crop"], about["channels"]) == (str(resize), "16", str(channels))
    assert "EXIF" in about["input"] and about["interpolation"] == "bilinear, antialiased"


@pytest.mark.parametrize("channels", [1, 3])
def test_the_lines_of_the_card_say_what_predict_says(
    channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run as they stand, on a photograph that is neither square nor upright."""
    monkeypatch.chdir(tmp_path)
    folder = save(Path("FOLDER"), channels=channels, resize=20)
    detector = Detector(Settings(score={"msp": {}}, false_alarms=0.3), AROUND)
    about = {"recipe": "penumbra", "seed": 0, "settings": {}}
    card = model_card(about, ["cat", "dog", "élan"], (20, 16, channels), detector, 0.9)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = np.random.default_rng(0).integers(0, 256, (31, 45, 3), dtype=np.uint8)
    Image.fromarray(photo).save("photo.jpg", quality=95, exif=exif)
    [row] = lines("photo.jpg", "--model", folder)[1]
    pillow, onnx = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    found: dict[str, Any] = {}
    exec(pillow, found)
    assert row["confidence"] == pytest.approx(float(found["logits"].detach().softmax(dim=1).max()), abs=1e-5)
    command = re.search(r"`penumbra (export .*?)`", card)
    assert command is not None and CliRunner().invoke(app, command[1].split()).exit_code == 0
    exec(onnx, found)
    assert row["score"] == pytest.approx(float(found["score"][0]), abs=1e-5)
    assert (row["verdict"] == "unknown") == bool(found["unknown"][0])


def test_a_pushed_model_is_the_whole_folder(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Api:
        def create_repo(self, repository: str, *, repo_type: str, exist_ok: bool) -> None:
            assert (repository, repo_type, exist_ok) == ("me/classifier", "model", True)

        def upload_folder(self, *, folder_path: Path, allow_patterns: list[str], **_: Any) -> SimpleNamespace:
            (tmp_path / "hub").mkdir()
            for name in allow_patterns:
                shutil.copy(folder_path / name, tmp_path / "hub" / name)
            return SimpleNamespace(oid="c" * 40)

    monkeypatch.setattr("pipeline.hub.upload.HfApi", Api)
    done = CliRunner().invoke(app, ["push", "me/classifier", "--model", str(model)])
    assert done.exit_code == 0 and "c" * 40 in done.stdout
    assert open_set.load(str(tmp_path / "hub"), None).settings.score == {"msp": {}}
    (model / "detector.json").unlink()
    with pytest.raises(UserError, match=r"no detector\.json"):
        push(model, "me/classifier")
