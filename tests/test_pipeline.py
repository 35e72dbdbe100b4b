"""The whole pipeline on a toy: what it leaves behind, and that it leaves the same again."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from pipeline import STAGES
from pipeline.__main__ import _run
from tests.conftest import RECIPES, make_project, ran, run, toy_params

pytestmark = pytest.mark.xdist_group("project")  # DVC works in it, one command at a time


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every artefact by path; timings differ by design, and a killed run leaves its lock."""
    paths = [path for top in ("data", "metrics") for path in sorted((folder / top).rglob("*")) if path.is_file()]
    kept = [path for path in paths if "timings" not in path.parts and path.name != ".gitignore"]
    kept = [path for path in kept if path.suffix != ".lock"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def test_second_repro_does_nothing(project: Path) -> None:
    done = run(["dvc", "repro"], project)
    assert done.returncode == 0 and ran(done) == []


def test_two_runs_from_scratch_are_byte_identical(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_project(tmp_path, toy_params()))
    for stage in STAGES[:-1]:  # the report holds timings
        _run(stage)
    assert digests(tmp_path) == digests(project)


def test_summary_has_the_promised_shape(project: Path) -> None:
    summary = json.loads((project / "metrics/summary.json").read_text())
    metrics = {"auroc", "fpr95", "fpr95_id_positive", "aupr_in", "aupr_out"}
    assert tuple(summary) == RECIPES
    for detectors in summary.values():
        assert set(detectors) == set(toy_params()["score"]["detectors"]) | {"own", "odin"}
        for entry in detectors.values():
            assert set(entry) == {"id_accuracy", "near", "far", "sets"}
            assert set(entry["id_accuracy"]) == {"mean", "std"}
            for block in (entry["near"], entry["far"], *entry["sets"].values()):
                assert set(block) == metrics
                assert all(set(value) == {"mean", "std"} and 0 <= value["mean"] <= 100 for value in block.values())
            assert not set(entry["sets"]) & {"digit-1", "digit-6", "astronaut", "moon"}


def test_the_headline_is_a_dozen_numbers_a_recipe_out_of_the_other_tables(project: Path) -> None:
    tables = {
        name: json.loads((project / f"metrics/{name}.json").read_text())
        for name in ("headline", "summary", "shortcuts", "choice")
    }
    assert tuple(tables["headline"]) == RECIPES
    for recipe, found in tables["headline"].items():
        summary = tables["summary"][recipe]
        expected = {"id_accuracy": round(summary["own"]["id_accuracy"]["mean"], 2)}
        for name, detector in (("own", "own"), ("chosen", tables["choice"]["detector"])):
            expected[name] = {"decoded_flagged": round(tables["shortcuts"][recipe][detector]["mean"], 2)}
            for group in ("near", "far"):
                for metric in ("auroc", "fpr95"):
                    expected[name][f"{group}_{metric}"] = round(summary[detector][group][metric]["mean"], 2)
        assert found == expected


def test_summary_follows_from_the_scores(project: Path) -> None:
    """The group value is the unweighted mean over sets of the metrics of the stored scores."""
    from sklearn.metrics import roc_auc_score

    scores = pd.read_parquet(project / "metrics/scores.parquet")
    summary = json.loads((project / "metrics/summary.json").read_text())
    own = scores[scores["recipe"] == "penumbra"].rename(columns={"msp": "score"})
    by_seed = []
    for _, model in own.groupby("seed"):
        known = model.loc[model["set"] == "test", "score"]
        areas = [
            roc_auc_score([0] * len(known) + [1] * len(part), [*known, *part["score"]])
            for _, part in model[model["role"] == "near"].groupby("set")
        ]
        by_seed.append(100 * sum(areas) / len(areas))
    near = summary["penumbra"]["msp"]["near"]["auroc"]
    assert near["mean"] == pytest.approx(pd.Series(by_seed).mean(), abs=1e-4)
    assert near["std"] == pytest.approx(pd.Series(by_seed).std(ddof=1), abs=1e-4)


def test_flagged_decoded_images_follow_from_the_scores(project: Path) -> None:
    scores = pd.read_parquet(project / "metrics/scores.parquet")
    own = scores[scores["recipe"] == "penumbra"].rename(columns={"msp": "score"})
    shares = []
    for _, model in own.groupby("seed"):
        known, decoded = model[model["set"] == "test"], model[model["set"] == "decoded-test"]
        assert list(known["key"]) == list(decoded["key"])
        assert (known["score"] > known["score"].quantile(0.95)).mean() <= 0.05 + 1 / len(known)
        shares.append(100 * (decoded["score"] > known["score"].quantile(0.95)).mean())
    found = json.loads((project / "metrics/shortcuts.json").read_text())["penumbra"]["msp"]
    assert found["mean"] == pytest.approx(pd.Series(shares).mean(), abs=1e-4)
    assert found["std"] == pytest.approx(pd.Series(shares).std(ddof=1), abs=1e-4)


def test_a_detector_has_the_scores_of_id_validation_images_in_order(project: Path) -> None:
    for recipe in RECIPES:
        stored = load_file(project / f"data/models/recipes/{recipe}/s1/detector.safetensors")["id_scores"]
        scores = pd.read_parquet(project / f"data/outputs/{recipe}/s1/val.parquet")["own"]
        np.testing.assert_allclose(stored.numpy(), np.sort(scores.to_numpy()), atol=1e-6)


def test_decoded_test_images_are_the_test_images_through_the_autoencoder(project: Path) -> None:
    from pipeline.artifacts import images

    decoded, plain = images.load(project / "data/controls/decoded-test.parquet"), images.load_split(
        project / "data/images", "test")  # fmt: skip
    assert decoded.role == "decoded" and decoded.keys == plain.keys and decoded.labels.equal(plain.labels)
    assert decoded.pixels.shape == plain.pixels.shape and not decoded.pixels.equal(plain.pixels)


def test_dvc_shows_metrics_and_plots(project: Path) -> None:
    shown = run(["dvc", "metrics", "show", "--json"], project)
    assert shown.returncode == 0
    metrics = json.loads(shown.stdout)[""]["data"]
    assert set(metrics) == {"metrics/headline.json"}
    assert metrics["metrics/headline.json"]["data"] == json.loads((project / "metrics/headline.json").read_text())
    plotted = run(["dvc", "plots", "show", "--out", "plots"], project)
    assert plotted.returncode == 0, plotted.stderr
    assert (project / "plots/index.html").is_file()


def test_scoring_alone_reruns_score_and_report(project: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(project, tmp_path / "copy"))
    params = (copy / "params.yaml").read_text()
    (copy / "params.yaml").write_text(re.sub(r"resamples: \d+", "resamples: 10", params))
    done = run(["dvc", "repro"], copy)
    assert ran(done) == ["score", "report"]


def test_a_fresh_clone_with_a_remote_scores_again_without_the_rest(project: Path, tmp_path: Path) -> None:
    """`dvc repro --pull --allow-missing score` fetches what scoring reads, and nothing else."""
    owner = Path(shutil.copytree(project, tmp_path / "owner"))
    for command in (["remote", "add", "-d", "storage", str(tmp_path / "remote")], ["push"]):
        done = run(["dvc", *command], owner)
        assert done.returncode == 0, done.stderr
    settings = toy_params()
    settings["score"]["detectors"]["gen"] = {}
    clone = make_project(tmp_path / "clone", settings)
    for name in ("dvc.lock", ".dvc/config", "metrics"):  # what git has
        source, target = owner / name, clone / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    for path in (clone / "metrics").glob("*.parquet"):
        path.unlink()
    done = run(["dvc", "repro", "--pull", "--allow-missing", "score"], clone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ran(done) == ["score"]
    assert {path.name for path in (clone / "data").iterdir()} <= {".gitignore", "fingerprints", "outputs", "timings"}
    assert "gen" in json.loads((clone / "metrics/summary.json").read_text())["penumbra"]


def test_somebody_else_s_outputs_are_scored_the_same(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from pipeline.__main__ import app

    monkeypatch.chdir(project)
    theirs = Path(shutil.copytree(project / "data/outputs/penumbra/s1", tmp_path / "theirs"))
    done = CliRunner().invoke(app, ["score", "--outputs", str(theirs), "--detectors", "msp,knn,gen"])
    assert done.exit_code == 0, done.output
    assert "score: theirs: gen: near AUROC" in done.stdout and "score: theirs: own: near AUROC" in done.stdout
    summary = json.loads((tmp_path / "theirs-metrics/summary.json").read_text())
    headline = json.loads((tmp_path / "theirs-metrics/headline.json").read_text())["theirs"]
    assert headline["own"]["far_auroc"] == round(summary["theirs"]["own"]["far"]["auroc"]["mean"], 2)
    seeds = pd.read_parquet(project / "metrics/seeds.parquet")
    own = seeds[(seeds["recipe"] == "penumbra") & (seeds["seed"] == 1) & (seeds["detector"] == "msp")]
    for name, values in summary["theirs"]["msp"]["sets"].items():
        assert values["auroc"]["mean"] == pytest.approx(own.loc[own["set"] == name, "auroc"].item(), abs=1e-4)
        assert values["auroc"]["std"] == 0


def test_differences_are_in_the_report_and_follow_from_the_scores(project: Path) -> None:
    table = pd.read_parquet(project / "metrics/differences.parquet")
    summary = json.loads((project / "metrics/summary.json").read_text())
    row = table.query("recipe == 'penumbra' and reference == 'baseline' and detector == 'own' and metric == 'auroc'")
    for group in ("near", "far"):
        found = row[row["set"] == group].iloc[0]
        means = [summary[recipe]["own"][group]["auroc"]["mean"] for recipe in ("penumbra", "baseline")]
        assert found["delta"] == pytest.approx(means[0] - means[1], abs=1e-3)
        assert found["low"] <= found["delta"] <= found["high"]
        assert f"{found['delta']:+.1f}" in (project / "report/index.html").read_text()


def test_splits_are_disjoint_and_hashed(project: Path) -> None:
    import pyarrow.parquet as pq

    manifest = json.loads((project / "data/images/manifest.json").read_text())
    seen: dict[bytes, str] = {}
    for name, about in manifest["sets"].items():
        path = project / f"data/images/{name}.parquet"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == about["sha256"]
        table = pq.read_table(path)
        assert table.num_rows == about["count"]
        if about["role"] == "id":
            for image in table.column("image").to_pylist():
                assert seen.setdefault(image["bytes"], name) == name
    roles = {about["role"] for about in manifest["sets"].values()}
    assert roles == {"id", "near", "far", "val-near", "val-far"}


def test_outliers_that_were_given_are_trained_on_without_stage_one(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = toy_params()
    settings["train"] |= {
        "outliers": "given/outliers",
        "controls": "given/controls",
        "steps": 3,
        "warmup": 1,
        "seeds": [0],
    }
    clone = make_project(tmp_path / "clone", settings)
    for name in ("outliers", "controls"):
        shutil.copytree(project / "data" / name, clone / "given" / name)
    needed = set(re.findall(r'"([a-z_@]+)"', run(["dvc", "dag", "--dot", "report"], clone).stdout))
    stages = ["fingerprint", "prepare", "teacher", "features", "train", "infer", "score", "hold_out", "report"]
    assert needed == set(stages)
    monkeypatch.chdir(clone)
    for stage in stages:
        _run(stage)
    assert "Does it help?" in (clone / "report/index.html").read_text()
    assert not (clone / "data/models/diffusion").exists()


KILLED = {  # stage: settings that make it slow, where its parts are, what it writes
    "diffusion": (
        {"diffusion": {"steps": 60, "checkpoint_every": 4}}, "data/models/.diffusion.checkpoint",
        ["data/models/diffusion"],
    ),
    "sample": (
        {"sample": {"mixup": toy_params()["sample"]["mixup"] | {"steps": 30, "batch": 16}}},
        "data/.candidates-mixup.parts/*/000001.*", ["data/candidates/mixup.arrow"],
    ),
    "train": (
        {"train": {"steps": 60, "checkpoint_every": 4}}, "data/models/.recipe-penumbra-s1.checkpoint",
        ["data/models/recipes/penumbra/s1"],
    ),
    "shards": (
        {"methods": ["boundary", "embedding", "embedding+histogram"]}, "data/.judged/embedding/*/000000.*",
        ["data/outliers", "data/controls"],
    ),
}  # fmt: skip


SLOW = pytest.mark.slow  # the same machinery as the others: `pytest -m slow`


@pytest.mark.parametrize("stage", [pytest.param(name, marks=SLOW if name == "diffusion" else ()) for name in KILLED])
def test_a_killed_stage_run_again_gives_the_same_bytes(
    stage: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL once the first part is on disk; the second run takes it over, and nothing else is left behind."""
    changes, part, outputs = KILLED[stage]
    settings = toy_params()
    for section, change in changes.items():
        settings[section] = settings[section] | change if isinstance(change, dict) else change
    folders = [make_project(tmp_path / name, settings) for name in ("killed", "undisturbed")]
    killed, undisturbed = folders
    for folder in folders:
        shutil.copytree(project / "data", folder / "data", dirs_exist_ok=True)
        for path in (folder / output for output in outputs):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    process = subprocess.Popen([sys.executable, "-m", "pipeline", stage], cwd=killed, stdout=subprocess.DEVNULL)
    while not any(killed.glob(part)):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not any((killed / output).exists() for output in outputs)
    if stage == "shards":
        shutil.copytree(killed / "data/.judged/boundary", killed / "data/.judged/mixup")  # named no more
    for folder in folders:
        monkeypatch.chdir(folder)
        _run(stage)
    assert digests(killed) == digests(undisturbed)


def test_curves_are_the_terms_over_time(project: Path) -> None:
    for seed in (0, 1):
        folder = project / f"data/curves/penumbra/s{seed}/plots/metrics"
        names = {"cross_entropy", "accuracy", "outlier_exposure", "logit_distillation"}
        assert {path.stem for path in folder.iterdir()} == names
        for name in names:
            table = pd.read_csv(folder / f"{name}.tsv", sep="\t")
            assert list(table.columns) == ["step", name] and list(table["step"]) == [0, 9]
            assert table[name].between(0, 1 if name == "accuracy" else 50).all()


def test_each_classifier_has_its_detector_and_a_card(project: Path) -> None:
    from huggingface_hub import ModelCard

    scores = pd.read_parquet(project / "metrics/scores.parquet")
    for recipe in RECIPES:
        for seed in (0, 1):
            folder = project / f"data/models/recipes/{recipe}/s{seed}"
            detector = json.loads((folder / "detector.json").read_text())
            rows = (scores["recipe"] == recipe) & (scores["seed"] == seed) & (scores["set"] == "val")
            on_val = scores.loc[rows, "own"]
            assert on_val.to_numpy() == pytest.approx(
                scores.loc[rows, next(iter(detector["score"]))].to_numpy(), abs=1e-9
            )
            assert detector["false_alarms"] == 0.05
            card = ModelCard.load(folder / "README.md")
            assert card.data.pipeline_tag == "image-classification"
            assert f"`{recipe}`, seed {seed}" in card.text and "More Information Needed" not in card.text
