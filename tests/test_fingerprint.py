"""What makes a stage run again: its code, and the files that params.yaml names; nothing else."""

import json
import os
import re
import shutil
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import STAGES, fingerprint
from pipeline.runtime import closure
from pipeline.runtime.errors import UserError
from tests.conftest import ROOT, ran, run, toy_params


def copied(folder: Path) -> Path:
    """A copy of the package, to edit."""
    return Path(shutil.copytree(ROOT / "pipeline", folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture(scope="module")
def without_type_imports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package without what only type checkers import."""
    folder = tmp_path_factory.mktemp("copy")
    for path in copied(folder).rglob("*.py"):
        path.write_text(re.sub(r"^if TYPE_CHECKING:\n(?:(?:    .*)?\n)+", "", path.read_text(), flags=re.M))
    return folder


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_of_a_stage_is_what_python_itself_would_import(stage: str, without_type_imports: Path) -> None:
    """Against the standard library's finder, which reads bytecode; it finds nothing outside of the project here."""
    finder = ModuleFinder(path=[str(without_type_imports)])
    finder.run_script(str(without_type_imports / f"pipeline/{stage}.py"))
    found = {Path(module.__file__) for module in finder.modules.values() if module.__file__}
    modules = {ROOT / path.relative_to(without_type_imports) for path in found} - closure.WITHOUT_EFFECT
    expected = {path for path in modules if path.name != "__init__.py"}
    own = fingerprint.code(stage, [])
    assert {path for path in own if path.suffix == ".py" and path.name != "__init__.py"} == expected
    assert {path for path in own if path.name == "__init__.py"} <= modules


def test_files_that_are_no_modules_belong_to_the_code_too() -> None:
    names = {path.name for stage in ("prepare", "report") for path in fingerprint.code(stage, [])}
    assert {"digits.yaml", "cifar10.yaml", "page.html.j2", "style.css"} <= names


def test_the_code_of_sample_is_that_of_the_methods_that_are_named() -> None:
    files = {name: {path.name for path in fingerprint.code("sample", names)} for name, names in NAMED.items()}
    assert "boundary.py" in files["boundary"] and "mixup.py" not in files["boundary"]
    assert {"mixup.py", "mixing.py"} <= files["mixup"] and "attribution.py" not in files["mixup"]
    assert fingerprint.code("train", ["mixup"]) == fingerprint.code("train", [])


NAMED = {"boundary": ["boundary", "noise"], "mixup": ["mixup"]}


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
    settings["score"]["detectors"] = {"msp": {}}
    settings["methods"].remove("oracle")  # there are no validation sets
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


@pytest.mark.parametrize("path", ["x" * 300, "photos/cat/0.png/x"])
def test_paths_that_lead_nowhere_are_left_to_the_stage_that_reads_them(path: str, photos: Path) -> None:
    settings = yaml.safe_load((photos / "params.yaml").read_text())
    settings["prepare"]["folder"] |= {"id": path, "near": {}}
    (photos / "params.yaml").write_text(yaml.safe_dump(settings))
    assert prints(photos)["prepare"]["files"] is None


def test_params_that_do_not_hold_stop_the_run_before_any_stage(photos: Path) -> None:
    settings = yaml.safe_load((photos / "params.yaml").read_text())
    settings["prepare"]["folder"]["id"] = "~nobody-of-this-name/x"
    (photos / "params.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(UserError, match="prepare.folder.id.*no such user's home folder"):
        fingerprint.main()
    assert not (photos / "data/fingerprints").exists()


def test_the_diffusion_model_is_of_no_importance_where_no_method_draws_from_it(workplace: Path) -> None:
    settings = toy_params()
    before = prints(workplace)
    settings["methods"] = ["boundary", "noise"]
    (workplace / "params.yaml").write_text(yaml.safe_dump(settings))
    assert changed(workplace, before) == {"diffusion", "sample"}
    assert json.loads((workplace / "data/fingerprints/diffusion.json").read_text()) == {"needed": False}


def test_an_edit_of_a_module_is_noticed_by_the_stages_that_import_it(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    copied(workplace)
    request.addfinalizer(forget)  # whatever fails here: other tests read the modules of this checkout
    for module in (fingerprint, closure):
        monkeypatch.setattr(module, "ROOT", workplace)
    forget()
    before = prints(workplace)
    with (workplace / "pipeline/evaluation/metrics.py").open("a") as file:
        file.write("# edited\n")
    forget()
    assert changed(workplace, before) == {"score"}
    with (workplace / "pipeline/reporting/style.css").open("a") as file:
        file.write("/* edited */\n")
    assert changed(workplace, before) == {"score", "report"}


def test_a_stage_that_nothing_needs_depends_on_no_code(workplace: Path) -> None:
    """The toy project has small networks from scratch and keeps no class aside."""
    idle = [stage for stage in STAGES[1:] if fingerprint.fingerprint(stage, [], {}) == {"needed": False}]
    assert idle == ["features", "hold_out"]


def forget() -> None:
    """The modules were read once: read them again."""
    closure.imported.cache_clear()
    closure.closure.cache_clear()


def test_dvc_runs_again_what_a_new_photograph_changes_and_nothing_else(tmp_path: Path) -> None:
    """A pipeline of two stages in place of all: the first one, and a stage that reads the photographs."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/0.png").touch()
    copied(tmp_path)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    listing = {
        "cmd": "ls photos > listing.txt", "deps": ["data/fingerprints/prepare.json"], "outs": ["listing.txt"],
    }  # fmt: skip
    copy = {"cmd": "cp listing.txt copy.txt", "deps": ["listing.txt"], "outs": ["copy.txt"]}
    own = {"stages": {"fingerprint": stages["fingerprint"], "listing": listing, "copy": copy}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(own))
    settings = toy_params()
    own_images = {"id": "photos", "near": {}, "far": {}, "val_near": {}, "val_far": {}}
    form = {"val_fraction": 0.15, "test_fraction": 0.25, "resize": 16, "size": 16, "channels": 3}
    settings["prepare"] |= {"benchmark": "folder", "folder": own_images | form}
    settings["score"]["detectors"] = {"msp": {}}
    settings["methods"].remove("oracle")  # there are no validation sets
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
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
