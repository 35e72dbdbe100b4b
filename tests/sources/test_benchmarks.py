"""Benchmarks are records: OpenOOD's lists, counts, classes and preprocessing; what differs from them is an error."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from pytorch_ood.benchmark import img as benchmarks_of_pytorch_ood
from timm.data import ImageNetInfo
from torchvision.transforms import v2

from pipeline import prepare
from pipeline.artifacts.images import ImageFile, load
from pipeline.classifier.networks import Classifier
from pipeline.runtime.errors import UserError
from pipeline.settings.benchmarks import record as record_of
from pipeline.sources import benchmarks
from pipeline.sources.preprocess import preprocess

OPENOOD = ("cifar10", "cifar100", "imagenet200", "imagenet1k")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def digest(names: tuple[str, ...] | list[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


@pytest.mark.parametrize("name", OPENOOD)
def test_records_have_the_sets_of_pytorch_ood_s_benchmark(name: str) -> None:
    record = record_of(name)
    theirs = getattr(benchmarks_of_pytorch_ood, record.benchmark)
    for role, names in (("near", theirs._near_ood), ("far", theirs._far_ood)):
        assert {n.lower() for n in names} == {n for n, about in record.sets.items() if about.role == role}
    assert {"train", "val", "test", "ood-val"} < set(record.sets)


def test_records_have_openood_s_counts_preprocessing_and_classes() -> None:
    """Counts by the lines of OpenOOD's lists; what is left out adds up to the whole."""
    counts = {name: {n: about.count for n, about in record_of(name).sets.items()} for name in OPENOOD}
    assert counts["cifar10"] == {
        "train": 50_000, "val": 1000, "test": 9000, "ood-val": 1000, "cifar100": 9000, "tinyimagenet": 7793,
        "mnist": 70_000, "svhn": 26_032, "textures": 5640, "places365": 35_195,
    }  # fmt: skip
    assert counts["cifar100"]["tinyimagenet"] + 2502 + counts["cifar100"]["ood-val"] == 10_000
    assert counts["cifar10"]["tinyimagenet"] + 1207 + counts["cifar10"]["ood-val"] == 10_000
    assert counts["cifar10"]["places365"] + 1305 == counts["cifar100"]["places365"] + 2727 == 36_500
    assert counts["imagenet1k"]["val"] + counts["imagenet1k"]["test"] == 50_000
    for name, size in (("cifar10", (32, 32)), ("imagenet200", (256, 224)), ("imagenet1k", (256, 224))):
        assert (record_of(name).resize, record_of(name).size) == size
    assert record_of("cifar10").classes_sha256 == digest(CIFAR10)
    wnids = ImageNetInfo("imagenet-1k").label_names()
    assert record_of("imagenet1k").classes_sha256 == digest(wnids)


def golden() -> np.ndarray:
    """A wide image with edges and a gradient, (3, 60, 90)."""
    rows, columns = np.mgrid[:60, :90]
    return np.stack([4 * rows, 2 * columns + rows, 255 * ((rows // 7 + columns // 5) % 2)]).astype(np.uint8)


@pytest.mark.parametrize(("resize", "size"), [(32, 32), (256, 224)])
def test_preprocessing_is_openood_s_to_the_last_bit(resize: int, size: int) -> None:
    """Against its published steps in torchvision: RGB, shorter side bilinear, centre crop, to tensor, normalise."""
    mean, std = [0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]
    image = Image.fromarray(np.moveaxis(golden(), 0, -1))
    steps = v2.Compose([
        v2.Resize(resize, v2.InterpolationMode.BILINEAR), v2.CenterCrop(size), v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std),
    ])  # fmt: skip
    ours = torch.from_numpy(preprocess(golden(), size, 3, resize).copy())
    model = Classifier("wrn-10-1", {"kind": "linear"}, ["a", "b"], size, 3, mean, std, resize)
    seen: list[torch.Tensor] = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.eval()(ours[None].float() / 255)
    torch.testing.assert_close(seen[0][0], steps(image), rtol=0, atol=1e-6)


def test_preprocessing_has_not_changed() -> None:
    """The golden tensor: uint8 pixels of the image above, as Pillow 12 makes them."""
    found = preprocess(golden(), 32, 3, 32)
    assert found.shape == (3, 32, 32)
    assert found[:, ::8, ::8].tolist() == GOLDEN


GOLDEN = [
    [[3, 3, 3, 3], [62, 62, 62, 62], [122, 122, 122, 122], [182, 182, 182, 182]],
    [[32, 62, 92, 122], [46, 76, 106, 136], [61, 91, 121, 151], [76, 106, 136, 166]],
    [[223, 32, 223, 32], [223, 32, 223, 32], [223, 32, 223, 32], [223, 32, 223, 32]],
]


def openood(root: Path, counts: dict[str, int]) -> Path:
    """A tiny copy of OpenOOD's layout: its lists, and images of the lists, some grey, one in CMYK."""
    lists = root / "openood_benchmark_imglist/benchmark_imglist/cifar10"
    lists.mkdir(parents=True)
    random = np.random.default_rng(0)
    files = {
        "train": ("train_cifar10.txt", "cifar10/train"), "val": ("val_cifar10.txt", "cifar10/test"),
        "test": ("test_cifar10.txt", "cifar10/test"), "ood-val": ("val_tin.txt", "tin/val"),
        "cifar100": ("test_cifar100.txt", "cifar100/test"), "tinyimagenet": ("test_tin.txt", "tin/test"),
        "mnist": ("test_mnist.txt", "mnist"), "svhn": ("test_svhn.txt", "svhn"),
        "textures": ("test_texture.txt", "texture"), "places365": ("test_places365.txt", "places365"),
    }  # fmt: skip
    for name, (file, folder) in files.items():
        lines = []
        for i in range(counts[name]):
            known = folder.startswith("cifar10/")
            path = f"{folder}/{CIFAR10[i % 10] if known else 'x'}/{name}-{i:04d}.png"
            lines.append(f"{path} {i % 10 if known else -1}")
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            shape = (28, 28) if name == "mnist" else (40, 30, 3) if name == "textures" else (32, 32, 3)
            picture = Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8))
            picture.save(root / path)
        (lists / file).write_text("\n".join(lines) + "\n")
    return root


SETS = ("train", "val", "test", "ood-val", "cifar100", "tinyimagenet", "mnist", "svhn", "textures", "places365")
COUNTS = dict.fromkeys(SETS, 20)


def use(workplace: Path, **changes: Any) -> None:
    settings = yaml.safe_load((workplace / "params.yaml").read_text())
    settings["prepare"] |= {"benchmark": "cifar10", "root": str(workplace / "openood")} | changes
    (workplace / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))


def test_openood_s_lists_become_splits_and_sets(workplace: Path) -> None:
    openood(workplace / "openood", COUNTS)
    use(workplace, partial=True)
    prepare.main()
    manifest = json.loads(Path("data/images/manifest.json").read_text())
    assert manifest["classes"] == list(CIFAR10) and manifest["title"] == "CIFAR-10, OpenOOD v1.5"
    assert {name: about["count"] for name, about in manifest["sets"].items()} == {
        (name if name in ("train", "val", "test") else f"ood/{name}"): 20 for name in COUNTS
    }
    assert "train: 20 images, expected 50000" in manifest["partial"] and len(manifest["partial"]) == 10
    train = ImageFile(Path("data/images/train.parquet"))
    assert train.preprocessing.mean == [0.4914, 0.4822, 0.4465] and train.preprocessing.resize == 32
    found = load(Path("data/images/ood/mnist.parquet"))
    assert found.role == "far" and found.pixels.shape == (20, 3, 32, 32) and (found.labels == -1).all()
    assert load(Path("data/images/test.parquet")).labels.tolist() == [i % 10 for i in range(20)]
    assert "1,207 that show a class of CIFAR-10" in manifest["sets"]["ood/tinyimagenet"]["excluded"]
    audit = manifest["sets"]["ood/mnist"]["audit"]
    assert audit["grey"] == [100.0, 0.0] and audit["files"] == ["PNG 28x28", "PNG 32x32"]


def test_what_is_not_the_benchmark_is_an_error_unless_partial(workplace: Path) -> None:
    openood(workplace / "openood", COUNTS)
    use(workplace)
    with pytest.raises(UserError, match=r"benchmark cifar10: train: 20 images, expected 50000.*prepare.partial"):
        prepare.main()
    assert not Path("data/images").exists()


def test_sets_that_are_not_there(workplace: Path) -> None:
    root = openood(workplace / "openood", COUNTS)
    for path in (root / "svhn/x").iterdir():
        path.unlink()
    use(workplace)
    with pytest.raises(UserError, match=r"svhn.*cannot be read.*prepare.partial"):
        prepare.main()
    use(workplace, partial=True)
    prepare.main()
    manifest = json.loads(Path("data/images/manifest.json").read_text())
    assert "ood/svhn" not in manifest["sets"] and "svhn: 0 images, expected 26032" in manifest["partial"]


def test_a_root_without_lists(workplace: Path) -> None:
    use(workplace)
    with pytest.raises(UserError, match=r"not the images and lists of OpenOOD.*prepare.root"):
        prepare.main()
    use(workplace, root=None)
    with pytest.raises(UserError, match=r"prepare.root is null"):
        prepare.main()


@pytest.mark.parametrize("path", ["../secret.png", "/etc/hostname", "mnist/../../secret.png"])
def test_a_list_that_leads_out_of_the_folder(workplace: Path, path: str) -> None:
    root = openood(workplace / "openood", COUNTS)
    file = root / "openood_benchmark_imglist/benchmark_imglist/cifar10/test_mnist.txt"
    file.write_text(f"{path} -1\n")
    use(workplace, partial=True)
    with pytest.raises(UserError, match=r"named in an image list, and outside of"):
        prepare.main()


def test_images_of_other_modes_are_converted_as_openood_does(workplace: Path) -> None:
    root = openood(workplace / "openood", COUNTS)
    path = next((root / "texture/x").iterdir())
    picture = Image.open(path).convert("CMYK")
    picture.save(path.with_suffix(".jpg"))
    path.with_suffix(".jpg").rename(path)
    use(workplace, partial=True)
    prepare.main()
    rows = pq.read_table("data/images/ood/textures.parquet").num_rows
    assert rows == 20


def test_unknown_benchmark(workplace: Path) -> None:
    use(workplace, benchmark="cifar1")
    with pytest.raises(UserError, match=r"prepare.benchmark: unknown 'cifar1'; expected cifar10, .*folder"):
        prepare.main()


def test_every_difference_from_the_record_is_named() -> None:
    record = record_of("digits")
    classes = ["0", "2", "3", "5", "7", "9"]
    counts = {name: about.count or 0 for name, about in record.sets.items()}
    pixels = {name: about.pixels or "" for name, about in record.sets.items()}
    assert benchmarks.differences(record, classes, counts, pixels) == []
    assert benchmarks.differences(record, ["1", *classes[1:]], counts, pixels) == [
        "classes 1, 2, 3, ... are not the benchmark's"
    ]
    assert benchmarks.differences(record, classes[1:], counts, pixels) == ["5 classes, expected 6"]
    assert benchmarks.differences(record, classes, counts | {"test": 1}, pixels) == ["test: 1 images, expected 270"]
    assert "other images" in benchmarks.differences(record, classes, counts, pixels | {"brick": "ab" * 32})[0]
    assert "has not: sky" in benchmarks.differences(record, classes, counts | {"sky": 5}, pixels)[0]
