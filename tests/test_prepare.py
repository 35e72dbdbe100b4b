"""Preparing your own images: the form the networks see, splits, halves, copies, and what gives a set away."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, load_dataset
from datasets import Image as ImageFeature
from PIL import Image
from torchvision import transforms

from pipeline import prepare
from pipeline.artifacts.codec import decode, encode_png
from pipeline.artifacts.images import load
from pipeline.artifacts.roles import OOD_LABEL
from pipeline.presets import compose
from pipeline.runtime.errors import UserError
from pipeline.shortcuts.sets import SetStatistics, compare
from pipeline.sources.benchmarks import Record
from pipeline.sources.collection import Item

FORM = Record(title="", source="folder", resize=16, size=16, channels=3)


def conformed(data: bytes, form: Record = FORM) -> bytes:
    [picture] = prepare.conformed([Item("k", 0, lambda: data)], form, SetStatistics(), measured=True)
    return picture.data


@pytest.mark.parametrize("shape", [(20, 40), (40, 20), (16, 31), (9, 7), (300, 200)])
@pytest.mark.parametrize("resize", [16, 20])
def test_preprocessing_is_openoods(shape: tuple[int, int], resize: int) -> None:
    """Shorter side resized (bilinear), centre crop: torchvision's own transforms on the same image, to a grey level.

    Which way Pillow goes first depends on its version, see `preprocess._resized`.
    """
    array = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = decode(conformed(encode_png(np.moveaxis(array, -1, 0)), FORM.model_copy(update={"resize": resize})), "k")
    reference = transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(16)])(Image.fromarray(array))
    expected = np.moveaxis(np.asarray(reference), -1, 0)
    np.testing.assert_allclose(found.astype(int), expected.astype(int), atol=1)
    width, height = (resize * side // min(array.shape[:2]) for side in array.shape[1::-1])
    across = Image.fromarray(array).resize((width, len(array)), Image.Resampling.BILINEAR)
    both = transforms.CenterCrop(16)(across.resize((width, height), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(found, np.moveaxis(np.asarray(both), -1, 0))


def test_an_image_that_fits_keeps_its_bytes_and_grey_becomes_colour() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    data = encode_png(grey)
    assert conformed(data, FORM.model_copy(update={"channels": 1})) is data
    np.testing.assert_array_equal(decode(conformed(data), "k"), np.repeat(grey, 3, axis=0))


def jpeg(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG")
    return buffer.getvalue()


def parquet(path: Path, count: int, classes: list[str], seed: int, column: str = "image") -> Path:
    """Images in Hugging Face's layout, written by `datasets`."""
    random = np.random.default_rng(seed)
    rows = {
        column: [
            {"bytes": jpeg(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)), "path": None} for _ in range(count)
        ],
        "label": [i % len(classes) for i in range(count)],
    }
    features = Features({column: ImageFeature(), "label": ClassLabel(names=classes)})
    Dataset.from_dict(rows, features=features).to_parquet(path)
    return path


def use(workplace: Path, **changes: Any) -> None:
    settings = yaml.safe_load(compose("folder"))
    settings["prepare"]["folder"] |= {"resize": 16, "size": 16} | changes
    (workplace / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))


def test_parquet_with_splits_and_sets_that_are_halved(workplace: Path) -> None:
    train = parquet(workplace / "train.parquet", 60, ["cat", "dog"], 0)
    test = parquet(workplace / "test.parquet", 40, ["cat", "dog"], 1)
    sky = parquet(workplace / "sky.parquet", 31, ["x"], 2)
    use(workplace, id={"train": str(train), "test": str(test)}, val_fraction=0.2, near={"sky": str(sky)},
        val_near={"sky": str(sky)})  # fmt: skip
    prepare.main()
    sets = json.loads(Path("data/images/manifest.json").read_text())["sets"]
    assert {name: (about["role"], about["count"]) for name, about in sets.items()} == {
        "train": ("id", 60), "val": ("id", 8), "test": ("id", 32),
        "ood/sky": ("near", 15), "ood/sky-val": ("val-near", 16),
    }  # fmt: skip
    given = {row["image"]["bytes"] for row in pq.read_table(test).to_pylist()}
    parts = [{row["image"]["bytes"] for row in pq.read_table(f"data/images/{name}.parquet").to_pylist()}
             for name in ("val", "test")]  # fmt: skip
    assert parts[0] | parts[1] == given and not parts[0] & parts[1]  # every image once, its codec kept
    halves = [set(load(Path(f"data/images/ood/{name}.parquet")).keys) for name in ("sky", "sky-val")]
    assert len(halves[0] | halves[1]) == 31 and not halves[0] & halves[1]
    assert load(Path("data/images/ood/sky.parquet")).labels.tolist() == [OOD_LABEL] * 15
    assert load(Path("data/images/train.parquet")).classes == ["cat", "dog"]


def test_the_hub_s_cifar_calls_its_images_img(workplace: Path) -> None:
    use(workplace, id=str(parquet(workplace / "all.parquet", 60, ["cat", "dog"], 0, column="img")))
    prepare.main()
    assert sum(len(load(Path(f"data/images/{name}.parquet"))) for name in ("train", "val", "test")) == 60


def test_the_result_is_read_by_datasets_alone(workplace: Path) -> None:
    use(workplace, id=str(parquet(workplace / "all.parquet", 60, ["cat", "dog"], 0)))
    prepare.main()
    found = load_dataset("parquet", data_files="data/images/train.parquet", split="train", cache_dir=str(workplace))
    assert found.features["label"].names == ["cat", "dog"] and found[0]["image"].size == (16, 16)


def test_splits_of_other_classes_and_parquet_without_classes(workplace: Path) -> None:
    train = parquet(workplace / "train.parquet", 40, ["cat", "dog"], 0)
    other = parquet(workplace / "test.parquet", 40, ["dog", "cat"], 1)
    use(workplace, id={"train": str(train), "test": str(other)})
    prepare.main()  # the same classes in another order: labels go by name
    rows = {row["image"]["bytes"]: row["label"] for row in pq.read_table(other).to_pylist()}
    for name in ("val", "test"):
        for row in pq.read_table(f"data/images/{name}.parquet").to_pylist():
            assert row["label"] == 1 - rows[row["image"]["bytes"]]
    use(workplace, id={"train": str(train), "test": str(parquet(workplace / "third.parquet", 40, ["cat", "cow"], 1))})
    with pytest.raises(UserError, match=r"test: class 'cow', which train has not; expected some of cat, dog"):
        prepare.main()
    pq.write_table(pq.read_table(train).replace_schema_metadata(None), train)
    use(workplace, id=str(train))
    with pytest.raises(UserError, match=r"train.parquet: no column `label` with class names"):
        prepare.main()
    train.write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"train.parquet: not images in Hugging Face's parquet layout"):
        prepare.main()


def test_two_sets_of_one_name(workplace: Path) -> None:
    train = parquet(workplace / "train.parquet", 40, ["cat", "dog"], 0)
    use(workplace, id=str(train), near={"sky": str(train)}, far={"sky": str(train)})
    with pytest.raises(UserError, match="two OOD sets of one name, 'sky'"):
        prepare.main()


def facts(images: list[np.ndarray], files: list[bytes] | None = None) -> SetStatistics:
    found = SetStatistics()
    for i, pixels in enumerate(images):
        found.note(files[i] if files else encode_png(pixels), pixels, 0, measured=True)
    found.measure()
    return found


def test_the_audit_sees_copies_colour_codec_size_and_statistics() -> None:
    random = np.random.default_rng(0)
    known = [random.integers(100, 156, (3, 16, 16), dtype=np.uint8) for _ in range(40)]
    grey = [np.repeat(random.integers(0, 256, (1, 16, 16), dtype=np.uint8), 3, axis=0) for _ in range(20)]
    own = [*grey, known[0], known[1]]
    found: Any = compare(facts(own, [jpeg(np.moveaxis(one, 0, -1)) for one in own]), facts(known), facts(known))
    assert found["in_training"] == 2
    assert found["grey"] == [pytest.approx(100 * 20 / 22, abs=0.01), 0.0]
    assert found["files"] == ["JPEG 16x16", "PNG 16x16"]
    assert found["statistics"]["contrast"] > 90 and found["statistics"]["colourfulness"] > 90
    same: Any = compare(facts(known), facts(known), SetStatistics())
    assert set(same["statistics"].values()) == {50.0}


def test_the_digest_is_of_pixels_labels_and_order_and_not_of_the_codec() -> None:
    images = [np.full((3, 16, 16), value, dtype=np.uint8) for value in (10, 20)]
    first, again, other = SetStatistics(), SetStatistics(), SetStatistics()
    for i, one in enumerate(images):
        first.note(encode_png(one), one, i, measured=False)
        again.note(b"", one, i, measured=False)
        other.note(encode_png(one), one, 1 - i, measured=False)
    assert first.digest == again.digest != other.digest
    assert facts(images).digest != facts(images[::-1]).digest
