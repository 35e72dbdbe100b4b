"""What makes a stage run again: its code, and the files that params.yaml names; nothing else."""

import json
import os
import shutil
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import STAGES, fingerprint
from tests.conftest import ROOT, ran, run, toy_params


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_of_a_stage_is_what_python_itself_would_import(stage: str) -> None:
    """Against the standard library's finder, which reads bytecode; it finds nothing outside of the project here."""
    finder = ModuleFinder(path=[str(ROOT)])
    finder.run_script(str(ROOT / f"pipeline/{stage}.py"))
    found = {Path(module.__file__) for module in finder.modules.values() if module.__file__}
    modules = {path for path in found if path.name != "__init__.py"} - fingerprint.WITHOUT_EFFECT
    assert {path for path in fingerprint.closure(stage) if path.suffix == ".py"} == modules


def test_files_that_are_no_modules_belong_to_the_code_too() -> None:
    names = {path.name for stage in ("prepare", "report") for path in fingerprint.closure(stage)}
    assert {"digits.yaml", "cifar10.yaml", "page.html.j2", "style.css"} <= names


def prints(folder: Path) -> dict[str, Any]:
    fingerprint.main()
    return {path.stem: json.loads(path.read_text()) for path in (folder / "data/fingerprints").glob("*.json")}


def changed(folder: Path, before: dict[str, Any]) -> set[str]:
    after = prints(folder)
    return {stage for stage in after if after[stage] != before[stage]}


@pytest.fixture
def photos(workplace: Path) -> Path:
    """Two classes, a link to a folder elsewhere and an OOD folder, named in params.yaml; a model in a folder."""
    for name in ("photos/cat", "photos/dog", "elsewhere", "checks", "vae"):
        (workplace / name).mkdir(parents=True)
        (workplace / name / "0.png").write_bytes(name.encode())
    (workplace / "photos/bird").symlink_to("../elsewhere")
    (workplace / "photos/round").symlink_to("../photos")
    settings = toy_params()
    own = {"id": "photos", "near": {"checks": "checks"}, "far": {}, "val_near": {}, "val_far": {}}
    form = {"val_fraction": 0.15, "test_fraction": 0.25, "resize": 16, "size": 16, "channels": 3}
    settings["prepare"] |= {"benchmark": "folder", "folder": own | form}
    settings["autoencoder"]["source"] = "vae"
    (workplace / "params.yaml").write_text(yaml.safe_dump(settings))
    return workplace


def test_nothing_changes_by_itself(photos: Path) -> None:
    before = prints(photos)
    assert set(before) == set(STAGES[1:])
    assert not changed(photos, before)


@pytest.mark.parametrize(
    ("path", "stages"),
    [
        ("photos/cat/1.png", {"prepare"}),
        ("photos/cow/1.png", {"prepare"}),
        ("elsewhere/1.png", {"prepare"}),
        ("checks/1.png", {"prepare"}),
        ("vae/config.json", {"autoencoder"}),
        ("photos-of-others/1.png", set()),
    ],
)
def test_a_new_file_is_noticed_by_the_stage_that_reads_it(path: str, stages: set[str], photos: Path) -> None:
    before = prints(photos)
    (photos / path).parent.mkdir(exist_ok=True)
    (photos / path).touch()
    assert changed(photos, before) == stages


def test_a_file_that_is_removed_or_rewritten_is_noticed(photos: Path) -> None:
    before = prints(photos)
    (photos / "photos/cat/0.png").write_bytes(b"tac/sotohp")  # of the same length
    os.utime(photos / "photos/cat/0.png", ns=(1, 1))
    assert changed(photos, before) == {"prepare"}
    before = prints(photos)
    (photos / "photos/dog/0.png").unlink()
    assert changed(photos, before) == {"prepare"}


def test_images_that_are_not_at_hand_count_as_unchanged(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever scores again has the outputs, not the photographs."""
    before = prints(photos)
    (photos / "photos").rename(photos / "taken-away")
    assert not changed(photos, before)
    assert "photos (prepare.folder.id) is not there" in capsys.readouterr().out


def test_globs_and_home_folders_are_read_as_the_stages_do(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(photos))
    settings = yaml.safe_load((photos / "params.yaml").read_text())
    settings["prepare"]["folder"] |= {"id": "~/shards/*.parquet", "near": {}}
    (photos / "params.yaml").write_text(yaml.safe_dump(settings))
    (photos / "shards").mkdir()
    (photos / "shards/a.parquet").touch()
    before = prints(photos)
    (photos / "shards/b.parquet").touch()
    assert changed(photos, before) == {"prepare"}


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "x" * 300, "photos/cat/0.png/x"])
def test_paths_that_lead_nowhere_are_left_to_the_stage_that_reads_them(path: str, photos: Path) -> None:
    settings = yaml.safe_load((photos / "params.yaml").read_text())
    settings["prepare"]["folder"] |= {"id": path, "near": {}}
    settings["autoencoder"]["source"] = path
    (photos / "params.yaml").write_text(yaml.safe_dump(settings))
    assert prints(photos)["prepare"]["files"] is None


def test_an_edit_of_a_module_is_noticed_by_the_stages_that_import_it(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "pipeline", workplace / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "ROOT", workplace)
    fingerprint.imported.cache_clear()
    before = prints(workplace)
    with (workplace / "pipeline/evaluation/metrics.py").open("a") as file:
        file.write("# edited\n")
    assert changed(workplace, before) == {"score", "report"}
    with (workplace / "pipeline/reporting/style.css").open("a") as file:
        file.write("/* edited */\n")
    assert changed(workplace, before) == {"score", "report"}
    fingerprint.imported.cache_clear()


def test_dvc_runs_again_what_a_new_photograph_changes_and_nothing_else(tmp_path: Path) -> None:
    """A pipeline of two stages in place of all: the first one, and a stage that reads the photographs."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/0.png").touch()
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    listing = {
        "cmd": "ls photos > listing.txt", "deps": ["data/fingerprints/prepare.json"], "outs": ["listing.txt"],
    }  # fmt: skip
    copy = {"cmd": "cp listing.txt copy.txt", "deps": ["listing.txt"], "outs": ["copy.txt"]}
    own = {"stages": {"fingerprint": stages["fingerprint"], "listing": listing, "copy": copy}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(own))
    (tmp_path / "params.yaml").write_text("prepare: {folder: {id: photos}}\n")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")

    def repro() -> list[str]:
        return ran(run(["dvc", "repro"], tmp_path))

    assert repro() == ["listing", "copy"]
    assert repro() == []
    (tmp_path / "photos/0.png").touch()  # another time, the same names: what follows is as it was
    assert repro() == ["listing"]
    (tmp_path / "photos/1.png").touch()
    assert repro() == ["listing", "copy"]
