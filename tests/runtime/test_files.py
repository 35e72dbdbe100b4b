from pathlib import Path

import pytest

from pipeline.runtime.errors import UserError
from pipeline.runtime.files import atomic_write, read_json, write_json


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_finished_write_replaces_the_target() -> None:
    target = Path("data/deep/set")
    for content in ("old", "new"):
        with atomic_write(target) as partial:
            partial.mkdir()
            (partial / content).write_text(content)
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in target.parent.iterdir()] == ["set"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_target_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(error), atomic_write(target) as partial:
        partial.write_text("half")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_text() == "old"


def test_what_a_killed_run_left_is_not_taken_over(tmp_path: Path) -> None:
    stale = tmp_path / "data/.set.partial"
    stale.mkdir(parents=True)
    (stale / "stale").write_text("x")
    with atomic_write(tmp_path / "data/set") as partial:
        partial.mkdir()
        (partial / "fresh").write_text("y")
    assert [path.name for path in (tmp_path / "data/set").iterdir()] == ["fresh"]


@pytest.mark.parametrize("target", ["mine", "data/../mine", "elsewhere/../mine", "link"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_folder_that_is_not_the_pipelines_is_never_removed(tmp_path: Path, target: str, kind: str) -> None:
    for name in ("mine", "data", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine/precious.txt").write_text("x")
    (tmp_path / "link").symlink_to("mine")
    try:
        with atomic_write(Path(target)) as partial:
            partial.mkdir() if kind == "folder" else partial.write_text("y")
    except UserError as error:
        assert "never removed" in str(error)
    assert (tmp_path / "mine/precious.txt").read_text() == "x"


def test_outputs_that_lie_on_another_disk_are_still_the_pipelines(tmp_path: Path) -> None:
    (tmp_path / "disk/set").mkdir(parents=True)
    (tmp_path / "disk/set/old").write_text("x")
    (tmp_path / "data").symlink_to("disk")
    with atomic_write(Path("data/set")) as partial:
        partial.mkdir()
        (partial / "new").write_text("y")
    assert [path.name for path in (tmp_path / "disk/set").iterdir()] == ["new"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="cannot be written"), atomic_write(tmp_path / "file" / "set") as partial:
        partial.mkdir()


def test_json_is_the_same_bytes_and_never_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, "ü"]})
    assert read_json(tmp_path / "a.json") == {"b": 1, "a": [1.5, "ü"]}
    with pytest.raises(ValueError):
        write_json(tmp_path / "b.json", float("nan"))
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        read_json(tmp_path / "c.json")
