"""Which files count as images, and that all others are counted by their reason."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts.codec import decode, formats, suffixes
from pipeline.sources import walk as walking
from pipeline.sources.walk import Found, walk

RGB = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8))


@pytest.mark.parametrize("suffix", sorted(suffixes()))
def test_every_suffix_on_the_list_is_read(suffix: str, tmp_path: Path) -> None:
    kind = {".mpo": "MPO"}.get(suffix) or Image.registered_extensions()[suffix]
    RGB.save(tmp_path / f"A{suffix.upper()}", kind)
    [path] = walk(tmp_path).images
    assert decode(path.read_bytes(), path.name, convert=True).shape == (3, 9, 12)


def test_phones_formats_are_among_them() -> None:
    assert {".heic", ".avif", ".jfif", ".jpe", ".gif", ".ppm", ".mpo", ".webp"} <= suffixes()
    assert {"HEIF", "AVIF"} <= set(formats())


def test_whatever_is_passed_over_is_counted_by_its_reason(tmp_path: Path) -> None:
    for name in (
        "a.png",
        "b/c.JPG",
        "b/.d.png",
        ".thumbnails/e.png",
        "__MACOSX/._a.png",
        "f.txt",
        "g.txt",
        "h.zip",
        "i",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "dead.png").symlink_to("nowhere")
    (tmp_path / "round.png").symlink_to("round.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png/j.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    found = walk(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found.images] == ["a.png", "b/c.JPG", "folder.png/j.png"]
    assert {reason: sorted(names) for reason, names in found.left_out.items()} == {
        "hidden": [".thumbnails", "__MACOSX", "b/.d.png"], ".txt": ["f.txt", "g.txt"], ".zip": ["h.zip"],
        "without suffix": ["i"], "dead link": ["dead.png", "round.png"], "not a file": ["pipe.png"],
    }  # fmt: skip
    assert ".txt: 2 (f.txt, g.txt)" in found.summary() and "hidden: 3 (" in found.summary()


def test_links_are_followed_and_none_leads_round_for_ever(tmp_path: Path) -> None:
    for name in ("photos/cat", "elsewhere/bird"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "0.png").touch()
    photos = tmp_path / "photos"
    (photos / "bird").symlink_to(tmp_path / "elsewhere/bird")
    (photos / "again.png").symlink_to(photos / "cat/0.png")
    (photos / "cat/up").symlink_to(photos)
    (tmp_path / "elsewhere/bird/back").symlink_to(photos)
    found = walk(photos)
    assert [path.relative_to(photos).as_posix() for path in found.images] == ["again.png", "bird/0.png", "cat/0.png"]
    assert sorted(found.left_out["link to a folder that is read already"]) == ["bird/back", "cat/up"]


def test_a_format_that_cannot_be_read_here_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "IMG_1.HEIC").touch()
    monkeypatch.setattr(walking, "suffixes", lambda: frozenset({".png"}))
    found = walk(tmp_path)
    assert not found.images and "pip install 'penumbra[heic]': 1 (IMG_1.HEIC)" in found.summary()


@pytest.mark.skipif(os.geteuid() == 0, reason="root opens every folder")
def test_a_folder_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    assert walk(tmp_path).left_out == {"folder that cannot be opened": ["closed"]}


def test_a_name_that_is_no_unicode_is_shown(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).touch()
    assert walk(tmp_path).summary() == r".txt: 1 (caf\xe9.txt)"


def test_many_names_are_cut_short() -> None:
    found = Found()
    for i in range(5):
        found.leave_out(".txt", f"{i}.txt")
    found.add(Found(left_out={".txt": ["5.txt"]}), below="cat")
    assert found.summary() == ".txt: 6 (0.txt, 1.txt, ...)" and found.left_out[".txt"][-1] == "cat/5.txt"
