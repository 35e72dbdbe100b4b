"""Your own images: what is a class, what is left out aloud, what stops the stage; splits that are given or drawn."""

import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.artifacts.codec import encode_png
from pipeline.runtime.errors import UserError
from pipeline.settings.prepare import FolderSettings
from pipeline.sources import folder
from pipeline.sources.collection import Collection

pytestmark = pytest.mark.faults
Fault = Callable[[str, str, str], None]


def fill(path: Path, count: int, suffix: str = "png", start: int = 0) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + count):
        random = np.random.default_rng([i, *os.fsencode(path)])
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path / f"{i}.{suffix}")
    return path


def settings(images: Path | dict[str, str], **changes: Any) -> FolderSettings:
    ood: dict[str, Any] = {"near": {}, "far": {}, "val_near": {}, "val_far": {}}
    form = {"val_fraction": 0.2, "test_fraction": 0.2, "resize": 8, "size": 8, "channels": 3}
    own = images if isinstance(images, dict) else str(images)
    return FolderSettings.model_validate({"id": own} | ood | form | changes)


def load(images: Path | dict[str, str], **changes: Any) -> Collection:
    return folder.load(settings(images, **changes), 0)


def keys(found: Collection) -> list[str]:
    return sorted(item.key for items in found.splits.values() for item in items)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        fill(tmp_path / "photos" / name, 12)
    return tmp_path / "photos"


def test_class_folders_of_any_name_are_classes(tmp_path: Path, fault: Fault) -> None:
    names = ["my cat.1", "test", "train", "val", "[x] Ü", "__background__", "a::b", "-rf", "# no comment", "雪"]
    for name in names:
        fill(tmp_path / "[id] *photos::1" / name, 10, "jpg")
    found = load(tmp_path / "[id] *photos::1")
    assert found.classes == sorted(names) and not found.notes
    assert sum(map(len, found.splits.values())) == 10 * len(names)
    for items in found.splits.values():
        for item in items:
            assert item.key.split("/")[0] == found.classes[item.label]
            assert item.read() == (tmp_path / "[id] *photos::1" / item.key).read_bytes()  # the codec is kept
    fault("images of one's own", "class folders of odd names, `train` and `a::b` among them", "classes of these names")


def test_everything_below_a_class_folder_belongs_to_it(photos: Path, fault: Fault) -> None:
    fill(photos / "cat/indoor/by night", 3)
    fill(photos / "dog/indoor", 4)
    found = load(photos)
    assert found.classes == ["cat", "dog"] and len(keys(found)) == 31
    assert "cat/indoor/by night/0.png" in keys(found)
    fault("images of one's own", "folders inside class folders", "images of the class")


def test_classes_and_images_may_be_links(photos: Path, tmp_path: Path, fault: Fault) -> None:
    (photos / "bird").symlink_to(fill(tmp_path / "elsewhere", 11))
    (photos / "cat/linked.png").symlink_to(fill(tmp_path / "single", 1) / "0.png")
    (photos / "cat/round").symlink_to("..")
    found = load(photos)
    assert found.classes == ["bird", "cat", "dog"] and len(keys(found)) == 36
    assert "link to a folder that is read already" in found.notes[0]
    fault("images of one's own", "a class that is a link, a link round in a circle", found.notes[0])


def test_what_is_not_used_is_named(photos: Path, fault: Fault) -> None:
    fill(photos / ".dog", 10)
    fill(photos, 12)
    for name in ("metadata.csv", "old.zip", "cat/notes.txt", "cat/._0.png", ".DS_Store"):
        (photos / name).write_text("file_name,label\n0.png,x\n")
    found = load(photos)
    assert found.classes == ["cat", "dog"] and len(keys(found)) == 24
    [note] = found.notes
    for part in (
        "photos: left out", "image in no class folder: 12 (0.png, 1.png, ...)", ".csv: 1 (metadata.csv)",
        ".zip: 1 (old.zip)", ".txt: 1 (cat/notes.txt)", "hidden: 3 (.DS_Store, .dog, ...)",
    ):  # fmt: skip
        assert part in note
    fault("images of one's own", "images at the root, archive, metadata, hidden files", note)


def test_every_class_folder_without_an_image_is_named(photos: Path, fault: Fault) -> None:
    (photos / "empty").mkdir()
    (photos / "texts").mkdir()
    (photos / "texts/a.txt").touch()
    with pytest.raises(UserError) as error:
        load(photos)
    lines = str(error.value).splitlines()
    assert len(lines) == 2 and "empty: a class folder without a readable image; add some, or remove it" in lines[0]
    assert "texts: a class folder without a readable image, only .txt: 1 (a.txt)" in lines[1]
    fault("images of one's own", "a class folder without an image", lines[1])


def test_a_class_of_a_format_that_cannot_be_read_is_named(
    photos: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    fill(photos / "bird", 12, "heic")
    assert load(photos).classes == ["bird", "cat", "dog"]
    monkeypatch.setattr("pipeline.sources.walk.suffixes", lambda: frozenset({".png"}))
    with pytest.raises(
        UserError, match=r"bird: a class folder without .*which needs pip install 'penumbra\[heic\]': 12"
    ) as error:
        load(photos)
    fault("images of one's own", "a class of HEIC photographs without pillow-heif", str(error.value))


def test_too_few_classes(tmp_path: Path) -> None:
    fill(tmp_path / "id" / "only", 30)
    with pytest.raises(
        UserError, match=r"one class folder, only, expected at least 2; .*, or name .*only if its folders are"
    ):
        load(tmp_path / "id")
    with pytest.raises(UserError, match=r"no class folder \(beside image in no class folder: 30"):
        load(tmp_path / "id/only")


def test_names_that_look_the_same(photos: Path, fault: Fault) -> None:
    for kind in ("NFC", "NFD"):
        fill(photos / unicodedata.normalize(kind, "café"), 10)  # type: ignore[arg-type]
    with pytest.raises(
        UserError, match="two class folders are called café, in Unicode form NF[CD] and in NF[CD]; merge"
    ) as error:
        load(photos)
    fault("images of one's own", "two classes that differ by Unicode form", str(error.value))


def test_a_root_that_is_split_already_is_used_so(tmp_path: Path, fault: Fault) -> None:
    for split, count in (("train", 20), ("Validation", 5), ("test", 7)):
        for name in ("cat", "dog"):
            fill(tmp_path / "id" / split / name, count)
    found = load(tmp_path / "id")
    assert found.classes == ["cat", "dog"]
    assert {split: len(items) for split, items in found.splits.items()} == {"test": 14, "train": 40, "val": 10}
    assert "split already, and used so: " in found.notes[-1]
    fault("images of one's own", "a root of train, val and test folders", found.notes[-1])


@pytest.mark.parametrize(("there", "counts"), [
    (["train", "test"], {"train": 40, "val": 8, "test": 32}), (["train", "val"], {"train": 32, "val": 40, "test": 8}),
])  # fmt: skip
def test_a_split_that_is_missing_is_drawn(there: list[str], counts: dict[str, int], tmp_path: Path) -> None:
    for split in there:
        for name in ("cat", "dog"):
            fill(tmp_path / "id" / split / name, 20)
    found = load(tmp_path / "id")
    assert {split: len(items) for split, items in found.splits.items()} == counts
    drawn = [item.key for split in ("train", "val", "test") for item in found.splits[split]]
    assert len(drawn) == 80


AMBIGUOUS = {
    "flat test images": (["train/cat", "train/dog", "test"], "without class folders in common"),
    "flat validation images too": (["train/cat", "train/dog", "test/cat", "test/dog", "val"], "without class folders"),
    "classes in other letters": (["train/Cat", "train/Dog", "test/cat", "test/dog"], "without class folders in common"),
    "no training images": (["val/cat", "val/dog", "test/cat", "test/dog"], "folders named as splits (test, val)"),
    "other names of splits": (["train_set/cat", "test_set/cat"], "folders named as splits (test_set, train_set)"),
    "images beside the splits": (["train/cat", "test/cat", "unknown"], "unknown beside the splits has images too"),
    "two training folders": (["train/cat", "training/cat", "test/cat"], "train beside the splits has images too"),
    "a class beside train and test": (["train/front", "test/front", "plane/front"], "plane beside the splits"),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_roots_that_may_be_split_or_not_stop_the_stage(name: str, tmp_path: Path, fault: Fault) -> None:
    folders, words = AMBIGUOUS[name]
    for folder_name in folders:
        fill(tmp_path / "id" / folder_name, 3)
    with pytest.raises(UserError) as error:
        load(tmp_path / "id")
    assert words in str(error.value) and "prepare.folder.id: {train: ..." in str(error.value)
    fault("images of one's own", f"splits: {name}", str(error.value))


def test_what_lies_beside_the_splits_is_named(tmp_path: Path) -> None:
    for name in ("train/cat", "train/dog", "test/cat", "test/dog"):
        fill(tmp_path / "id" / name, 10)
    (tmp_path / "id/labels.csv").touch()
    assert f"{tmp_path / 'id'}: left out labels.csv, beside the splits" in load(tmp_path / "id").notes


def test_splits_of_other_classes(tmp_path: Path) -> None:
    for name in ("cat", "dog", unicodedata.normalize("NFC", "café")):
        fill(tmp_path / "train" / name, 10)
    for name in ("dog", unicodedata.normalize("NFD", "café")):
        fill(tmp_path / "test" / name, 10)
    given_splits = {"train": str(tmp_path / "train"), "test": str(tmp_path / "test")}
    with pytest.raises(UserError, match="test: class 'caf.*' in Unicode form NFD, expected NFC as in train; rename"):
        load(given_splits)
    (tmp_path / "test" / unicodedata.normalize("NFD", "café")).rename(tmp_path / "test/cow")
    with pytest.raises(UserError, match="test: class 'cow', which train has not; expected some of caf.*"):
        load(given_splits)
    (tmp_path / "test/cow").rename(tmp_path / "test/cat")
    found = load(given_splits)
    assert "test: no image of café" in found.notes
    for item in found.splits["test"]:
        assert found.classes[item.label] == item.key.split("/")[0]


def test_an_image_in_two_classes_stops_the_stage(photos: Path, fault: Fault) -> None:
    for i in range(5):
        shutil.copy(photos / f"dog/{i}.png", photos / f"cat/copy-{i}.png")
    with pytest.raises(
        UserError, match=r"5 images are in two classes, the first of them cat/copy-0.png and dog/0.png"
    ) as error:
        load(photos)
    fault("images of one's own", "an image in two classes", str(error.value))


def test_copies_within_a_class_count_once(photos: Path, fault: Fault) -> None:
    for i in range(5):
        shutil.copy(photos / f"cat/{i}.png", photos / f"cat/copy-{i}.png")
    found = load(photos)
    assert len(keys(found)) == 24
    assert "left out 5 copies within a class (the first: cat/0.png and cat/copy-0.png)" in found.notes[-1]
    fault("images of one's own", "copies within a class", found.notes[-1])


@pytest.mark.parametrize("there", [["train", "val"], ["train", "test"]])
def test_a_copy_is_never_on_both_sides_of_a_split_that_is_drawn(there: list[str], tmp_path: Path) -> None:
    for split in there:
        for name in ("cat", "dog"):
            fill(tmp_path / "id" / split / name, 20)
            for i in range(20):
                shutil.copy(
                    tmp_path / "id" / split / name / f"{i}.png", tmp_path / "id" / split / name / f"copy-{i}.png"
                )
    found = load(tmp_path / "id")
    contents = {split: {item.read() for item in items} for split, items in found.splits.items()}
    assert not contents["train"] & contents["test"] and not contents["val"] & contents["test"]


def test_a_class_without_a_training_image_stops_the_stage(tmp_path: Path) -> None:
    train = table(tmp_path / "train.parquet", 30, [0] * 30)
    with pytest.raises(UserError, match="train: no image of dog; add some, or take the class out"):
        load({"train": str(train), "test": str(table(tmp_path / "test.parquet", 20, start=1))})


def test_a_test_image_that_is_a_training_image_stops_the_stage(photos: Path, tmp_path: Path, fault: Fault) -> None:
    shutil.copytree(photos, tmp_path / "test")
    given_splits = {"train": str(photos), "test": str(tmp_path / "test")}
    with pytest.raises(
        UserError, match="24 images are in two splits, the first of them train: cat/0.png and test: cat/0"
    ) as error:
        load(given_splits)
    fault("images of one's own", "test images that are training images", str(error.value))


def test_ood_folders_have_no_labels_nested_or_not(photos: Path, tmp_path: Path) -> None:
    fill(tmp_path / "flat", 4)
    (tmp_path / "flat/notes.txt").touch()
    fill(tmp_path / "nested" / "x", 2)
    fill(tmp_path / "nested" / "test", 3)
    (tmp_path / "nested/far").symlink_to(fill(tmp_path / "linked", 2))
    sets = {"near": {"flat": str(tmp_path / "flat")}, "far": {"deep": str(tmp_path / "nested")}}
    found = load(photos, **sets)
    assert {name: (ood.role, len(ood.items)) for name, ood in found.ood.items()} == {
        "flat": ("near", 4), "deep": ("far", 7),
    }  # fmt: skip
    assert {item.label for ood in found.ood.values() for item in ood.items} == {-1}
    assert found.notes == [f"{tmp_path / 'flat'}: left out .txt: 1 (notes.txt)"]


def test_unknown_images_to_train_on_are_in_no_other_set(photos: Path, tmp_path: Path, fault: Fault) -> None:
    fill(tmp_path / "own/nested", 3)
    (tmp_path / "own/notes.txt").touch()
    near = {"near": {"apples": str(fill(tmp_path / "apples", 6))}, "val_near": {"apples": str(tmp_path / "apples")}}
    found = load(photos, unknown=str(tmp_path / "own"), **near)
    assert [item.label for item in found.unknown] == [-1] * 3 and set(found.ood) == {"apples", "apples-val"}
    assert not {item.key for item in found.unknown} & set(keys(found))
    assert found.notes[-1] == f"{tmp_path / 'own'}: left out .txt: 1 (notes.txt)"
    shutil.copy(tmp_path / "own/nested/0.png", tmp_path / "own/again.png")  # a copy among themselves is none elsewhere
    load(photos, unknown=str(tmp_path / "own"), **near)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no image"):
        load(photos, unknown=str(tmp_path / "empty"))
    for source, where in (("photos/cat/3.png", r"cat/3\.png"), ("apples/2.png", r"apples(-val)?: 2\.png")):
        shutil.copy(tmp_path / source, tmp_path / "own/taken.png")
        with pytest.raises(UserError, match=f"1 images are in other sets too, .*{where} and unknown: .*taken") as error:
            load(photos, unknown=str(tmp_path / "own"), **near)
    fault("images of one's own", "unknown images to train on that are tested", str(error.value))


def test_names_that_are_no_unicode_are_keys(photos: Path, fault: Fault) -> None:
    (photos / "cat/0.png").rename(photos / "cat" / os.fsdecode(b"caf\xe9.png"))
    found = load(photos)
    assert r"cat/caf\xe9.png" in keys(found)
    pa.array(keys(found), pa.string())
    fault("images of one's own", "a file name that is no UTF-8", "read under its name")


def test_home_folders(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keys(load(Path("~/photos"))) == keys(load(photos))
    with pytest.raises(ValueError, match="no such user"):
        settings(Path("~nobody-of-this-name/photos"))


def table(path: Path, count: int, labels: list[Any] | None = None, start: int = 0) -> Path:
    random = np.random.default_rng(start)
    images = [encode_png(random.integers(0, 256, (3, 8, 8), dtype=np.uint8)) for _ in range(count)]
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["cat", "dog"])})
    rows = {
        "image": [{"bytes": data, "path": None} for data in images],
        "label": labels or [i % 2 for i in range(count)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(rows, features=features).to_parquet(path)
    return path


@pytest.mark.parametrize("how", ["", "*.parquet", "**/train-*.parquet"])
@pytest.mark.parametrize("inside", ["", "data"])
def test_parquet_shards_are_one_set(how: str, inside: str, tmp_path: Path) -> None:
    files = [table(tmp_path / "set" / inside / f"train-{i:05d}-of-00002.parquet", 30, start=i) for i in range(2)]
    (tmp_path / "set/README.md").touch()
    found = load(tmp_path / "set" / ("" if how.startswith("**") else inside) / how)
    assert found.classes == ["cat", "dog"] and keys(found) == [f"{i:07d}" for i in range(60)]
    written = [row["image"]["bytes"] for file in files for row in pq.read_table(file).to_pylist()]
    for items in found.splits.values():
        for item in items:
            assert item.read() == written[int(item.key)] and item.label == int(item.key) % 2


def test_parquet_shards_whose_names_are_splits(tmp_path: Path, fault: Fault) -> None:
    for split, count in (("train", 40), ("validation", 10), ("test", 12)):
        table(tmp_path / f"set/data/{split}-00000-of-00001.parquet", count, start=count)
    found = load(tmp_path / "set")
    assert {split: len(items) for split, items in found.splits.items()} == {"train": 40, "val": 10, "test": 12}
    fault("images of one's own", "parquet shards of three splits in a folder", found.notes[-1])


def test_parquet_files_in_folders_of_splits(tmp_path: Path) -> None:
    for i, split in enumerate(("train", "test")):
        table(tmp_path / f"set/default/{split}/0000.parquet", 20, start=i)
    table(tmp_path / "set/.cache/0000.parquet", 20, start=5)
    found = load(tmp_path / "set")
    assert {split: len(items) for split, items in found.splits.items()} == {"train": 20, "val": 4, "test": 16}


def test_parquet_files_of_no_split_and_shards_that_are_missing(tmp_path: Path) -> None:
    for i, name in enumerate(("Train", "Test", "extra")):
        table(tmp_path / f"set/{name}.parquet", 20, start=i)
    with pytest.raises(UserError, match="extra.parquet: is beside files of test, train and belongs to none"):
        load(tmp_path / "set")
    table(tmp_path / "part/train-00000-of-00002.parquet", 20)
    with pytest.raises(UserError, match="part/train: 1 shards of 2 are there; get the others"):
        load(tmp_path / "part")


def test_the_same_images_are_not_tested_and_chosen_on_under_two_names(photos: Path, tmp_path: Path) -> None:
    sky = str(fill(tmp_path / "sky", 9))
    with pytest.raises(UserError, match=r"is for testing \(a\) and for choices \(b\); give both one name"):
        load(photos, near={"a": sky}, val_near={"b": sky + "/../sky"})
    found = load(photos, near={"a": sky}, val_near={"a": sky + "/"})
    assert {name: len(ood.items) for name, ood in found.ood.items()} == {"a": 4, "a-val": 5}


@pytest.mark.parametrize("name", ["train", "val", "test", "unknown", "decoded-test"])
def test_names_of_ood_sets_that_are_taken(name: str, photos: Path) -> None:
    with pytest.raises(ValueError, match="is the name of another set"):
        settings(photos, near={name: "x"})


@pytest.mark.parametrize("label", [-1, None, 2])
def test_labels_that_are_hidden_or_of_no_class(label: int | None, tmp_path: Path, fault: Fault) -> None:
    path = table(tmp_path / "images.parquet", 30)
    own = pq.read_table(path)
    labels = pa.array([0, 1, label, label] + [0] * 26, pa.int64())
    pq.write_table(own.set_column(1, own.schema.field("label"), labels), path)
    with pytest.raises(
        UserError, match=rf"2 rows, the first of them row 2, have no label \(the first: {label}\), expected 0 to 1"
    ) as error:
        load(path)
    fault("images of one's own", f"label {label}", str(error.value))


def test_rows_without_an_image(tmp_path: Path, fault: Fault) -> None:
    path = table(tmp_path / "images.parquet", 30)
    own = pq.read_table(path)
    images = [
        {"bytes": None, "path": "x.png"} if i in (3, 5) else row for i, row in enumerate(own.column(0).to_pylist())
    ]
    pq.write_table(own.set_column(0, own.schema.field("image"), pa.array(images, own.schema.field("image").type)), path)
    with pytest.raises(UserError, match="2 rows, the first of them row 3, hold no image") as error:
        load(path)
    fault("images of one's own", "parquet rows without an image", str(error.value))


def test_shards_of_other_classes(tmp_path: Path, fault: Fault) -> None:
    table(tmp_path / "set/a.parquet", 20)
    own = pq.read_table(table(tmp_path / "set/b.parquet", 20, start=1))
    metadata = {key: value.replace(b'"dog"', b'"cow"') for key, value in own.schema.metadata.items()}
    pq.write_table(own.replace_schema_metadata(metadata), tmp_path / "set/b.parquet")
    with pytest.raises(UserError, match=r"b.parquet: classes \['cat', 'cow'\], expected those of .*a.parquet") as error:
        load(tmp_path / "set")
    fault("images of one's own", "parquet shards of other classes", str(error.value))


PLACES = ["cat/{}.png", "cat/in/{}.png", "dog/{}.png", "dog/in/deep/{}.JPG", "{}.png", "dog/.{}.png", "cat/{}.txt"]


@hypothesis_settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(extra=st.lists(st.tuples(st.sampled_from(PLACES), st.integers(0, 9)), max_size=12, unique=True))
def test_every_file_is_used_or_counted(photos: Path, extra: list[tuple[str, int]]) -> None:
    """By counting: whatever lies in the folder is an image of its class, or in the note with its reason."""
    here = photos.parent / "copy"
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(photos, here)
    for i, (place, number) in enumerate(extra):
        path = here / place.format(f"x{number}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % i)
    found = load(here)
    used = set(keys(found))
    files = {path.relative_to(here).as_posix() for path in here.rglob("*") if path.is_file()}
    assert used <= files and all(key.split("/")[0] in found.classes for key in used)
    left = files - used
    counted = sum(int(part.split("(")[0]) for note in found.notes for part in note.split(": ")[2:])
    assert counted == len(left)
