"""Bad input: one line that names the cause and what to do, a status that is not 0, nothing half-written."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.__main__ import main
from tests.conftest import ROOT, toy_params


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def stage(folder: Path, *arguments: str) -> Done:
    """Run the command line in a folder, in this process: a second of imports saved each time."""
    out, err = io.StringIO(), io.StringIO()
    with chdir(folder), redirect_stdout(out), redirect_stderr(err), patch.object(sys, "argv", ["penumbra", *arguments]):
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def refused(done: Done, *words: str) -> None:
    """The command failed with one line that holds the words."""
    assert done.returncode == 1, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if "Warning" not in line]
    assert lines and lines[-1].startswith("error: ") and "Traceback" not in done.stderr, done.stderr
    assert all(word in lines[-1] for word in words), lines[-1]


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    settings = toy_params()
    change(settings)
    (folder / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))


def image_folder(folder: Path, per_class: int = 12) -> Path:
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(per_class):
            Image.fromarray(random.integers(0, 256, (20, 16, 3), dtype=np.uint8)).save(
                folder / "photos" / name / f"{i}.png"
            )
    return folder / "photos"


def use_folder(settings: dict[str, Any], path: Path | str | None) -> None:
    own = {"id": None if path is None else str(path), "near": {}, "far": {}, "val_near": {}, "val_far": {}}
    form = {"val_fraction": 0.15, "test_fraction": 0.25, "resize": 16, "size": 16, "channels": 3}
    settings["prepare"] |= {"benchmark": "folder", "folder": own | form}
    settings["score"]["detectors"] = {"msp": {}}  # without OOD validation sets there is nothing to choose by


@pytest.fixture
def finished(project: Path, tmp_path: Path) -> Path:
    """A copy of the finished toy project, to break."""
    for name in ("data", "metrics", "params.yaml"):
        source = project / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path / name)
    return tmp_path


class TestPrepare:
    def test_folder_source_works(self, workplace: Path) -> None:
        photos = image_folder(workplace)
        edit(workplace, lambda settings: use_folder(settings, photos))
        done = stage(workplace, "prepare")
        assert done.returncode == 0, done.stderr
        manifest = json.loads((workplace / "data/images/manifest.json").read_text())
        assert manifest["classes"] == ["cat", "dog"]
        assert sum(manifest["sets"][name]["count"] for name in ("train", "val", "test")) == 24

    def test_missing_folder(self, workplace: Path) -> None:
        edit(workplace, lambda settings: use_folder(settings, workplace / "nowhere"))
        refused(stage(workplace, "prepare"), "nowhere", "not a folder", "params.yaml")
        assert not (workplace / "data/images").exists()

    def test_folder_not_named(self, workplace: Path) -> None:
        edit(workplace, lambda settings: use_folder(settings, None))
        refused(stage(workplace, "prepare"), "prepare.folder.id is null")

    def test_empty_folder(self, workplace: Path) -> None:
        (workplace / "photos").mkdir()
        edit(workplace, lambda settings: use_folder(settings, workplace / "photos"))
        refused(stage(workplace, "prepare"), "photos: no class folder, expected at least 2")

    def test_truncated_image(self, workplace: Path) -> None:
        photos = image_folder(workplace)
        broken = photos / "cat" / "3.png"
        broken.write_bytes(broken.read_bytes()[:200])
        edit(workplace, lambda settings: use_folder(settings, photos))
        refused(stage(workplace, "prepare"), "cat/3.png", "not a readable image", "remove")
        assert not (workplace / "data/images").exists() and not list((workplace / "data").glob(".*"))

    def test_image_of_too_many_bits(self, workplace: Path) -> None:
        photos = image_folder(workplace)
        Image.new("I;16", (16, 16)).save(photos / "cat" / "3.png")
        edit(workplace, lambda settings: use_folder(settings, photos))
        refused(stage(workplace, "prepare"), "cat/3.png", "I;16", "8-bit")

    def test_colour_where_grey_is_asked_for_is_converted_aloud(self, workplace: Path) -> None:
        photos = image_folder(workplace)
        edit(
            workplace, lambda settings: (use_folder(settings, photos), settings["prepare"]["folder"].update(channels=1))
        )
        done = stage(workplace, "prepare")
        assert done.returncode == 0 and "24 colour images became grey, for channels is 1" in done.stdout

    def test_class_with_too_few_images(self, workplace: Path) -> None:
        photos = image_folder(workplace, per_class=4)
        edit(workplace, lambda settings: use_folder(settings, photos))
        refused(stage(workplace, "prepare"), "'cat'", "4 different images", "at least 10")

    def test_place_not_writable(self, workplace: Path) -> None:
        (workplace / "data").write_text("a file where the folder should be")
        refused(stage(workplace, "prepare"), "data", "cannot be written")


class TestParams:
    def test_no_file(self, tmp_path: Path) -> None:
        """In a process of its own, as a shell sees it."""
        command = [sys.executable, "-m", "pipeline", "prepare"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        refused(Done(done.returncode, done.stdout, done.stderr), "params.yaml", "not found", "penumbra preset")

    def test_not_yaml(self, workplace: Path) -> None:
        (workplace / "params.yaml").write_text("seed: [1\n")
        refused(stage(workplace, "prepare"), "params.yaml", "not valid YAML")

    def test_missing_key(self, workplace: Path) -> None:
        edit(workplace, lambda settings: settings["prepare"].pop("partial"))
        refused(stage(workplace, "prepare"), "prepare.partial", "missing")

    def test_unknown_key(self, workplace: Path) -> None:
        edit(workplace, lambda settings: settings["prepare"].update(partail=True))
        refused(stage(workplace, "prepare"), "prepare.partail", "did you mean partial")

    def test_wrong_type(self, workplace: Path) -> None:
        edit(workplace, lambda settings: settings["prepare"].update(partial="no"))
        refused(stage(workplace, "prepare"), "prepare.partial", "boolean", "'no'")

    def test_missing_section(self, workplace: Path) -> None:
        edit(workplace, lambda settings: settings.pop("encode"))
        refused(stage(workplace, "encode"), "encode is missing")

    def test_unknown_preset(self, workplace: Path) -> None:
        refused(stage(workplace, "preset", "digit"), "'digit'", "unknown", "digits")

    def test_unknown_recipe(self, workplace: Path) -> None:
        refused(stage(workplace, "train", "penumbro"), "recipes: no 'penumbro', did you mean penumbra")


class TestStages:
    def test_earlier_stage_did_not_run(self, workplace: Path) -> None:
        refused(stage(workplace, "autoencoder"), "train.parquet", "not found", "dvc repro prepare")

    def test_class_too_small_for_its_neighbours(self, finished: Path) -> None:
        edit(finished, lambda settings: settings["sample"]["boundary"].update(neighbours=500))
        refused(stage(finished, "sample"), "class 0", "images", "sample.boundary.neighbours = 500")

    def test_hub_model_without_a_pinned_revision(self, finished: Path) -> None:
        edit(finished, lambda settings: settings["autoencoder"].update(source="someone/some-vae"))
        refused(stage(finished, "autoencoder"), "someone/some-vae", "revision", "pin")

    def test_nothing_kept(self, finished: Path) -> None:
        def strict(settings: dict[str, Any]) -> None:
            settings["sample"]["boundary"].update(sigmas=[0.0001], kept_per_anchor=1)
            strict = {"confidence_quantile": 0.001, "distance_quantile": 0.999}
            settings["shards"].update(filters=["confident", "inside-id"], **strict)

        edit(finished, strict)
        assert stage(finished, "sample").returncode == 0
        before = (finished / "data/outliers/dataset.json").read_bytes()
        refused(stage(finished, "shards"), "boundary: 0 of 160", "confident", "sigmas")
        assert (finished / "data/outliers/dataset.json").read_bytes() == before
        assert not list((finished / "data").glob(".*partial"))

    def test_unknown_correction(self, finished: Path) -> None:
        edit(finished, lambda settings: settings.update(methods=["boundary+residuum"]))
        refused(stage(finished, "shards"), "methods", "'residuum' is unknown", "residual")

    def test_method_without_candidates(self, finished: Path) -> None:
        edit(finished, lambda settings: settings.update(methods=["boundary"]))
        (finished / "data/candidates/boundary.arrow").unlink()
        refused(stage(finished, "shards"), "data/candidates/boundary.arrow", "not found", "dvc repro sample")

    def test_method_that_does_not_exist(self, finished: Path) -> None:
        edit(finished, lambda settings: settings.update(methods=["boundary", "cutmix"]))
        refused(stage(finished, "sample"), "methods: unknown 'cutmix', did you mean cut-mix")

    def test_method_without_settings(self, finished: Path) -> None:
        edit(finished, lambda settings: settings["sample"].pop("mixup"))
        refused(stage(finished, "sample"), "sample.mixup is missing, and methods names it")

    def test_oracle_without_validation_sets(self, finished: Path) -> None:
        for path in (finished / "data/images/ood").glob("digit-*"):
            path.unlink()
        (finished / "data/candidates/oracle.arrow").unlink()
        refused(stage(finished, "sample"), "oracle: no near-OOD validation set", "prepare.folder.val_near")

    def test_generator_without_a_pinned_revision(self, finished: Path) -> None:
        edit(
            finished,
            lambda settings: settings["sample"]["embedding"].update(generator="someone/some-diffusion", prompt="a {}"),
        )
        refused(stage(finished, "sample"), "someone/some-diffusion", "revision", "pin")

    def test_unknown_filter(self, finished: Path) -> None:
        edit(finished, lambda settings: settings["shards"].update(filters=["flatt"]))
        refused(stage(finished, "shards"), "shards.filters", "unknown 'flatt', did you mean flat")

    def test_damaged_shard(self, finished: Path) -> None:
        shard = finished / "data/outliers/outliers-boundary-000001.tar"
        content = bytearray(shard.read_bytes())
        content[1000] ^= 1
        shard.write_bytes(content)
        refused(stage(finished, "train", "penumbra"), "outliers-boundary-000001.tar", "sha256", "damaged")

    def test_missing_shard(self, finished: Path) -> None:
        (finished / "data/outliers/outliers-boundary-000001.tar").unlink()
        refused(stage(finished, "train", "penumbra"), "outliers-boundary-000001.tar", "not found")

    def test_unknown_method(self, finished: Path) -> None:
        edit(finished, lambda settings: settings["recipes"]["penumbra"].update(auxiliary=["boundry"]))
        refused(stage(finished, "train", "penumbra"), "boundry: 0 images", "name another method")

    def test_exposure_without_outliers(self, finished: Path) -> None:
        exposure = {"weight": 0.5, "temperature": 1.0}
        edit(finished, lambda settings: settings["recipes"]["baseline"].update(outlier_exposure=exposure))
        refused(stage(finished, "train", "baseline"), "recipes.baseline", "outlier_exposure without outliers")

    def test_outliers_that_no_term_uses(self, finished: Path) -> None:
        edit(finished, lambda settings: settings["recipes"]["baseline"].update(auxiliary=["boundary"]))
        refused(stage(finished, "train", "baseline"), "recipes.baseline", "boundary", "no term that uses them")

    def test_exposure_to_further_id_images_alone(self, finished: Path) -> None:
        change = {"auxiliary": ["synthetic-id"], "outlier_exposure": {"weight": 0.5, "temperature": 1.0}}
        edit(finished, lambda settings: settings["recipes"]["baseline"].update(change))
        refused(stage(finished, "train", "baseline"), "synthetic-id", "outlier_exposure without outliers")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"outlier_exposure": {"weight": 0.5}}, "recipes.baseline.outlier_exposure.temperature: is missing"),
            (
                {"head": {"kind": "cosine"}},
                "recipes.baseline.head: Input tag 'cosine' found using 'kind'",
            ),
            ({"head": {"kind": "arcface", "scale": 16.0}}, "recipes.baseline.head.arcface.margin: is missing"),
            (
                {"micl": {"weight": 0.1, "estimator": "mine", "fitting_steps": 1, "learning_rate": 0.1}},
                "estimator: Input should be 'club' or 'infonce'",
            ),
        ],
    )
    def test_recipe_that_does_not_fit(self, finished: Path, change: dict[str, Any], words: str) -> None:
        edit(finished, lambda settings: settings["recipes"]["baseline"].update(change))
        refused(stage(finished, "train", "baseline"), words)

    def test_outliers_without_parents_for_micl(self, finished: Path) -> None:
        term = {"weight": 0.1, "estimator": "club", "fitting_steps": 1, "learning_rate": 0.1}
        change = {"auxiliary": ["noise"], "micl": term}
        edit(finished, lambda settings: settings["recipes"]["baseline"].update(change))
        refused(stage(finished, "train", "baseline"), "micl needs outliers made from ID classes", "boundary")

    def test_id_images_that_no_batch_would_have(self, finished: Path) -> None:
        term = {"weight": 0.1, "estimator": "club", "fitting_steps": 1, "learning_rate": 0.1}
        change = {"auxiliary": ["boundary", "decoded-id"], "micl": term}
        edit(finished, lambda settings: settings["recipes"]["baseline"].update(change))
        refused(stage(finished, "train", "baseline"), "recipes.baseline", "decoded-id", "name outlier methods alone")

    def test_training_that_diverges(self, finished: Path) -> None:
        before = (finished / "data/models/recipes/baseline/s0/model.safetensors").read_bytes()
        edit(finished, lambda settings: settings["train"].update(learning_rate=1e30))
        refused(stage(finished, "train", "baseline"), "baseline seed 0", "not finite", "learning_rate")
        assert (finished / "data/models/recipes/baseline/s0/model.safetensors").read_bytes() == before

    def test_unknown_network(self, finished: Path) -> None:
        edit(finished, lambda settings: settings["train"].update(network="resnet-21"))
        refused(stage(finished, "train", "baseline"), "'resnet-21': unknown", "wrn-DEPTH-WIDTH")

    def test_pretrained_classifier_that_was_not_trained(self, finished: Path) -> None:
        edit(finished, lambda settings: settings["train"].update(init_from="pretrained"))
        refused(stage(finished, "train", "baseline"), "train.init_from", "pretrained/s0", "teacher.pretrained_seeds")

    def test_pretrained_classifiers_of_another_network(self, finished: Path) -> None:
        edit(finished, lambda settings: settings["teacher"].update(pretrained_seeds=[0, 1], steps=2))
        assert stage(finished, "teacher").returncode == 0
        edit(finished, lambda settings: settings["train"].update(init_from="pretrained", network="resnet-20"))
        refused(stage(finished, "train", "baseline"), "train.network is not teacher.network")

    def test_pretrained_teacher_without_a_pinned_revision(self, finished: Path) -> None:
        edit(finished, lambda settings: settings["teacher"].update(network="timm:resnet10t", weights="timm/resnet10t"))
        refused(stage(finished, "teacher"), "timm/resnet10t", "revision", "pin")

    def test_unknown_detector(self, finished: Path) -> None:
        edit(finished, lambda settings: settings["score"]["detectors"].update({"mps": {}}))
        refused(stage(finished, "score"), "score.detectors: unknown 'mps'", "msp")

    def test_detector_option_that_does_not_fit(self, finished: Path) -> None:
        edit(finished, lambda settings: settings["score"]["detectors"].update(knn={"k": 100_000}))
        refused(stage(finished, "score"), "score.detectors.knn", "{'k': 100000}", "correct its options")

    def test_outputs_that_are_not_finite(self, finished: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = finished / "data/outputs/baseline/s0/test.parquet"
        table = pq.read_table(path)
        logits = [[float("nan")] * len(row) for row in table.column("logits").to_pylist()]
        index = table.column_names.index("logits")
        kind = table.schema.field("logits").type
        pq.write_table(table.set_column(index, "logits", pa.array(logits, kind)), path)
        refused(stage(finished, "score"), "test.parquet", "logits", "NaN")

    def test_no_ood_set_is_said_and_is_no_error(self, finished: Path) -> None:
        for path in (finished / "data/outputs").glob("*/s*/*/*.parquet"):
            if path.parent.name != "decoded":
                path.unlink()
        refused(stage(finished, "score"), "score.detectors.knn", "no OOD validation set", "val_near")
        edit(finished, lambda settings: settings["score"]["detectors"].update(knn={"k": 5}, vim={"d": 16}))
        done = stage(finished, "score")
        assert done.returncode == 0, done.stderr
        assert "no OOD test set; name some under prepare.folder.near" in done.stdout
        summary = json.loads((finished / "metrics/summary.json").read_text())
        assert set(summary) == {"baseline", "penumbra"}
        assert all(
            set(entry) == {"id_accuracy", "sets"} and not entry["sets"] for entry in summary["penumbra"].values()
        )
        headline = json.loads((finished / "metrics/headline.json").read_text())["penumbra"]
        assert set(headline["own"]) == set(headline["chosen"]) == {"decoded_flagged"}
        assert stage(finished, "report").returncode == 0
        page = (finished / "report/index.html").read_text()
        assert "No OOD test set was given" in page and "for want of validation OOD sets" in page

    def test_pickled_weights_are_not_loaded(self, finished: Path) -> None:
        folder = finished / "data/models/teacher"
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        refused(stage(finished, "shards"), "teacher", "safetensors", "pickle")


def test_a_png_that_claims_to_be_huge_is_refused() -> None:
    from pipeline.artifacts.codec import decode
    from pipeline.runtime.errors import UserError

    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, format="PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = (60_000).to_bytes(4, "big") * 2  # IHDR's width and height
    with pytest.raises(UserError, match="not a readable image"):
        decode(bytes(data), "bomb.png")
