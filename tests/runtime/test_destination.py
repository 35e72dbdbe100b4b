"""Paths that users type: whatever is there stays, unless it is an earlier output of the same kind and --force."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.artifacts import detector, outliers
from pipeline.artifacts.dataset_json import SCHEMA_VERSION
from pipeline.artifacts.outliers import encode_sample
from pipeline.artifacts.outputs import Outputs, path_of, write
from pipeline.classifier.networks import Classifier
from pipeline.hub import datasets as sharing
from pipeline.runtime.destination import Kind, destination, others
from pipeline.runtime.errors import UserError


def none_in_a_note(path: Path) -> list[str]:
    if path.read_text() != "ours":
        raise ValueError("somebody else's")
    return []


FOLDER = Kind("set", is_folder=True, strangers=lambda path: others(path, (path / "list").read_text().split()))
FILE = Kind("note", is_folder=False, strangers=none_in_a_note)


def snapshot(folder: Path) -> dict[str, bytes | str]:
    """Every file and link below a folder."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder two levels below the throw-away one, with somebody's files in it and around it."""
    home = tmp_path / "w/x/y/home"
    work = home / "a/b"
    for folder in ("results", "empty", "photos/dog", "deep/er"):
        (work / folder).mkdir(parents=True)
    for file in ("results/mine.txt", "photos/dog/0.png", "deep/er/mine.txt", "mine.txt", "../mine.txt"):
        (work / file).write_text("precious")
    Image.new("RGB", (20, 30)).save(work / "photos/0.png")
    (work / "to-results").symlink_to("results")
    (work / "to-empty").symlink_to("empty")
    (work / "round").symlink_to("round")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    return work


PARTS = [
    "results",
    "empty",
    "photos",
    "deep",
    "er",
    "new",
    "mine.txt",
    "to-results",
    "to-empty",
    "round",
    ".",
    "..",
    "~",
]


@hypothesis_settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    parts=st.lists(st.sampled_from(PARTS), min_size=1, max_size=5).filter(lambda parts: parts.count("..") < 5),
    start=st.sampled_from(["", "~/", "$HERE/"]),
    end=st.sampled_from(["", "/", "/.", "//"]),
    is_folder=st.booleans(),
    force=st.booleans(),
)
def test_however_a_path_is_spelled_nothing_is_lost(
    place: Path, parts: list[str], start: str, end: str, is_folder: bool, force: bool
) -> None:
    """What is written is taken away again, so that every example starts from the same files."""
    top = place.parents[5]  # more levels up than any example goes
    typed = Path(start.replace("$HERE", str(place)) + "/".join(parts) + end)
    before = snapshot(top)
    written = None
    try:
        found = destination(typed, FOLDER if is_folder else FILE, [place / "photos"], force)
        assert not found.path.exists() or (is_folder and not any(found.path.iterdir()))
        with found.writing() as path:
            (path / "output" if is_folder else path).parent.mkdir(exist_ok=True)
            (path / "output" if is_folder else path).write_text("new")
        written = found.path
    except UserError as error:
        assert "name another" in str(error) or "cannot be written" in str(error)
    after = snapshot(top)
    assert before.items() <= after.items()
    new = set(after) - set(before)
    assert len(new) == (written is not None)
    if written is not None:
        assert typed.expanduser().resolve() == written
        shutil.rmtree(written) if is_folder else written.unlink()
        (place / "empty").mkdir(exist_ok=True)


@pytest.mark.parametrize("typed", [".", "..", "../..", "/", "~", "~/", "../b", "deep/..", "results/../../b/."])
def test_the_working_folder_and_what_holds_it(place: Path, typed: str) -> None:
    for kind in (FOLDER, FILE):
        with pytest.raises(UserError, match="is (the working folder|your home folder) or contains it"):
            destination(Path(typed), kind, force=True)


def test_inputs_are_neither_replaced_nor_surrounded(place: Path) -> None:
    for typed in ("photos", "to-photos"):
        (place / "to-photos").exists() or (place / "to-photos").symlink_to("photos")
        with pytest.raises(UserError, match=r"overlaps with .*photos, which is read"):
            destination(Path(typed), FOLDER, [Path("photos")], force=True)
    with pytest.raises(UserError, match="overlaps"):
        destination(Path("deep"), FOLDER, [Path("deep/er")], force=True)
    with pytest.raises(UserError, match="overlaps"):
        destination(Path("photos/new"), FOLDER, [Path("photos")])
    assert destination(Path("photos/new.txt"), FILE, [Path("photos")]).path == place / "photos/new.txt"


def test_an_earlier_output_goes_with_force_alone_and_only_if_all_of_it_is_ours(place: Path) -> None:
    own = place / "own"
    own.mkdir()
    (own / "list").write_text("list")
    with pytest.raises(UserError, match="an earlier set is there; run again with --force"):
        destination(own, FOLDER)
    with destination(own, FOLDER, force=True).writing() as path:
        path.mkdir()
        (path / "list").write_text("list")
        (path / "new").touch()
    assert {path.name for path in own.iterdir()} == {"list", "new"}
    with pytest.raises(UserError, match=r"holds files of another origin \(new\)"):
        destination(own, FOLDER, force=True)
    (place / "note").write_text("ours")
    with destination(place / "note", FILE, force=True).writing() as path:
        path.write_text("theirs")
    with pytest.raises(UserError, match="not recognised as a note"):
        destination(place / "note", FILE, force=True)


def test_what_comes_to_be_there_meanwhile_stays(place: Path) -> None:
    found = destination(Path("later"), FILE)
    with pytest.raises(UserError, match="not recognised"), found.writing() as path:
        path.write_text("new")
        (place / "later").write_text("somebody else's")
    assert (place / "later").read_text() == "somebody else's"
    assert not [path for path in place.iterdir() if path.name.startswith(".later")]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_write_leaves_nothing(place: Path, error: type[BaseException]) -> None:
    before = snapshot(place)
    with pytest.raises(error), destination(Path("new"), FOLDER).writing() as path:
        path.mkdir()
        (path / "half").touch()
        raise error
    assert snapshot(place) == before and not (place / "new").exists()


def save_model(folder: Path) -> None:
    torch.manual_seed(0)
    Classifier("wrn-10-1", {"kind": "linear"}, ["a", "b"], 16, 3, [0.5] * 3, [0.2] * 3).save_pretrained(folder)
    detector.write(
        folder, detector.Detector(detector.Settings(score={"msp": {}}, false_alarms=0.05), torch.zeros(1).double())
    )


def save_dataset(folder: Path) -> None:
    import numpy as np

    folder.mkdir()
    fields = {
        "method": "noise", "label": -1, "parent_a": 0, "parent_b": 1, "strength": 0.5, "source": "", "candidate": 0,
        "distance": 0.5, "confidence": 0.5, "seed": 0,
    }  # fmt: skip
    sample = encode_sample(np.zeros((1, 8, 8), np.uint8), np.zeros((4, 2, 2), np.float16), fields, "a mark")
    about = {
        "schema_version": SCHEMA_VERSION, "name": "outliers", "licence": "other",
        "shards": outliers.pack(folder, "outliers", {"noise": 1}, lambda _, i: sample, 5),
        "methods": {"noise": {"packed": 1, "candidates": 1, "rejected": {}}},
        "id": {"classes": ["a", "b"], "count": 2, "shape": [1, 8, 8]},
    }  # fmt: skip
    outliers.write_rejected(folder, [])
    (folder / "dataset.json").write_text(json.dumps(about))


def save_outputs(folder: Path) -> None:
    random = torch.Generator().manual_seed(0)
    for name, role in (("val", "id"), ("test", "id"), ("textures", "far")):
        labels = torch.full((20,), -1) if role == "far" else torch.arange(20) % 2
        found = Outputs([str(i) for i in range(20)], labels, torch.randn(20, 2, generator=random), None)
        write(path_of(folder, name, role), [found])  # type: ignore[arg-type]


@pytest.fixture
def prepared(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_model(place / "model")
    for name in ("first", "second"):
        save_dataset(place / name)
    save_outputs(place / "outs")
    (place / "params.yaml").write_text("score: {detectors: {msp: {}}, resamples: 0}\n")

    def download(repository: str, *, local_dir: Path, **_: object) -> None:
        shutil.copytree(place / "first", local_dir)
        (local_dir / ".cache/huggingface").mkdir(parents=True)

    monkeypatch.setattr(sharing, "snapshot_download", download)
    return place


COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "predict": lambda to: ["predict", "photos/0.png", "--model", "model", "--parquet", to],
    "export": lambda to: ["export", to, "--model", "model"],
    "merge": lambda to: ["outliers", "merge", "first", "second", "--to", to],
    "pull": lambda to: ["outliers", "pull", "me/set", "--revision", "a" * 40, "--to", to],
    "score": lambda to: ["score", "--outputs", "outs", "--to", to],
}


@pytest.mark.faults
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_writes_where_it_is_told(
    command: str, prepared: Path, fault: Callable[[str, str, str], None]
) -> None:
    before = snapshot(prepared.parent)
    taken = ["results", "results/", "to-results", ".", "..", "deep/..", "~", "/", "mine.txt", "model", "round"]
    for to in taken:
        for force in ([], ["--force"]):
            done = CliRunner().invoke(app, [*COMMANDS[command](to), *force])
            assert done.exit_code == 1 and isinstance(done.exception, UserError), (to, done.output, done.exception)
            assert snapshot(prepared.parent) == before, to
    assert CliRunner().invoke(app, COMMANDS[command]("new/output")).exit_code == 0
    again = CliRunner().invoke(app, COMMANDS[command]("new/output"))
    assert again.exit_code == 1 and "--force" in str(again.exception)
    assert CliRunner().invoke(app, [*COMMANDS[command]("new/output"), "--force"]).exit_code == 0
    after = snapshot(prepared.parent)
    assert before.items() <= after.items()
    assert {Path(name).parts[:3] for name in set(after) - set(before)} == {("b", "new", "output")}
    fault(
        f"output path of `{command}`", f"{len(taken)} that are taken, with and without --force", "refused, nothing lost"
    )


def test_scores_beside_the_outputs_are_replaced_for_nobody_typed_their_path(prepared: Path) -> None:
    for _ in range(2):
        assert CliRunner().invoke(app, ["score", "--outputs", "outs"]).exit_code == 0
    (prepared / "outs-metrics/mine.txt").write_text("precious")
    done = CliRunner().invoke(app, ["score", "--outputs", "outs"])
    assert done.exit_code == 1 and "another origin (mine.txt)" in str(done.exception)
    assert (prepared / "outs-metrics/mine.txt").read_text() == "precious"


def test_tables_of_the_same_names_are_not_taken_for_ours(prepared: Path) -> None:
    (prepared / "outs-metrics").mkdir()
    (prepared / "outs-metrics/summary.json").write_text('{"mine": 1}')
    (prepared / "outs-metrics/roc.csv").write_text("mine")
    done = CliRunner().invoke(app, ["score", "--outputs", "outs"])
    assert done.exit_code == 1 and "not recognised as a folder of tables" in str(done.exception)
    assert (prepared / "outs-metrics/roc.csv").read_text() == "mine"


def test_a_card_that_somebody_wrote_in_stays(prepared: Path) -> None:
    assert CliRunner().invoke(app, COMMANDS["merge"]("all")).exit_code == 0
    with (prepared / "all/README.md").open("a") as card:
        card.write("What I found out about this set.")
    done = CliRunner().invoke(app, [*COMMANDS["merge"]("all"), "--force"])
    assert done.exit_code == 1 and "another origin (README.md)" in str(done.exception)


def test_if_the_last_step_fails_the_earlier_output_comes_back(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "note").write_text("ours")
    replace = Path.replace

    def stopped(path: Path, target: Path) -> Path:
        if path.name == "note" and path.parent != place:
            raise KeyboardInterrupt
        return replace(path, target)

    with pytest.raises(KeyboardInterrupt), destination(place / "note", FILE, force=True).writing() as path:
        path.write_text("new")
        monkeypatch.setattr(Path, "replace", stopped)
    assert (place / "note").read_text() == "ours"


def test_a_table_of_other_columns_is_no_file_of_predictions(prepared: Path) -> None:
    pq.write_table(pa.table({"path": ["x"]}), "mine.parquet")
    done = CliRunner().invoke(app, [*COMMANDS["predict"]("mine.parquet"), "--force"])
    assert done.exit_code == 1 and "not recognised as a file of predictions" in str(done.exception)
    assert pq.read_table("mine.parquet").column_names == ["path"]
