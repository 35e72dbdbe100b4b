from pathlib import Path

import pytest

from pipeline.runtime.errors import UserError
from pipeline.runtime.files import remove_others


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")


def test_only_what_is_named_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = Path("data/models/recipes")
    make(root, "a/s0/model", "a/s1/model", "a/.s2.partial/model", "b/s0/model", "stray", ".c/x")
    remove_others(root, {"a/s1"})
    assert [path.as_posix() for path in sorted(root.rglob("*")) if path.is_file()] == [f"{root}/a/s1/model"]
    remove_others(root, set())
    assert list(root.iterdir()) == []


def test_folders_elsewhere_are_never_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("photos"), "a/s0/model")
    with pytest.raises(UserError, match="never removed"):
        remove_others(Path("photos"), set())
    assert Path("photos/a/s0/model").is_file()


def test_a_folder_that_is_not_there_holds_nothing_to_remove(tmp_path: Path) -> None:
    remove_others(tmp_path / "none", {"a/s0"})
