"""Images, latents and candidates come back as they were written, and Hugging Face datasets reads the images."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import load_dataset

from pipeline.artifacts import candidates, images, latents
from pipeline.artifacts.candidates import Candidates
from pipeline.artifacts.codec import encode_png
from pipeline.artifacts.images import Picture, Preprocessing
from pipeline.artifacts.latents import Latents
from pipeline.runtime.errors import UserError


def test_images_come_back_and_datasets_reads_them(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)
    pictures = [Picture(f"k{i}", encode_png(array), i % 2) for i, array in enumerate(pixels)]
    images.write(tmp_path / "set.parquet", pictures, ["a", "b"], "id", Preprocessing(4))
    found = images.load(tmp_path / "set.parquet")
    assert torch.equal(found.pixels, torch.from_numpy(pixels))
    assert (found.labels.tolist(), found.keys, found.classes, found.role) == (
        [0, 1, 0, 1], ["k0", "k1", "k2", "k3"], ["a", "b"], "id",
    )  # fmt: skip
    data = load_dataset(
        "parquet", data_files=str(tmp_path / "set.parquet"), split="train", cache_dir=str(tmp_path / "c")
    )
    assert data.features["label"].names == ["a", "b"]
    np.testing.assert_array_equal(np.asarray(data[1]["image"]), np.moveaxis(pixels[1], 0, -1))


def test_latents_and_candidates_come_back(tmp_path: Path) -> None:
    mean, std = torch.randn(5, 4, 2, 3), torch.rand(5, 4, 2, 3)
    parts = [
        Latents(list("abc"), torch.arange(3), mean[:3], std[:3]),
        Latents(["d", "e"], torch.arange(3, 5), mean[3:], std[3:]),
    ]
    latents.write(tmp_path / "train.arrow", parts, mean.shape[1:])
    found = latents.load(tmp_path / "train.arrow")
    assert torch.equal(found.mean, mean) and torch.equal(found.std, std)
    assert (found.keys, found.labels.tolist()) == (list("abcde"), [0, 1, 2, 3, 4])


@pytest.mark.parametrize("kind", ["latent", "pixels"])
def test_candidates_come_back_with_the_digest_of_what_they_were_made_from(tmp_path: Path, kind: Any) -> None:
    values = torch.randn(5, 4, 2, 3) if kind == "latent" else torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    own = Candidates(kind, values, torch.arange(10).view(5, 2), torch.rand(5), torch.tensor([3, -1, 7, 0, -1]))
    candidates.write(tmp_path / "mixup.arrow", own, "a digest")
    back = candidates.load(tmp_path / "mixup.arrow")
    assert back.kind == kind and back.values.dtype == values.dtype
    for name, column in own.columns().items():
        assert torch.equal(back.columns()[name], column)
    assert candidates.made_from(tmp_path / "mixup.arrow") == "a digest"
    with pa.memory_map(str(tmp_path / "mixup.arrow")) as source:  # any Arrow reader does
        assert pa.ipc.open_file(source).read_all().num_rows == 5


def test_files_that_say_nothing_of_their_making_are_made_again(tmp_path: Path) -> None:
    assert candidates.made_from(tmp_path / "none.arrow") is None
    (tmp_path / "other.arrow").write_bytes(b"not arrow")
    assert candidates.made_from(tmp_path / "other.arrow") is None
    latents.write(
        tmp_path / "latents.arrow",
        [Latents(["a"], torch.zeros(1), torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))],
        (1, 2, 2),
    )
    assert candidates.made_from(tmp_path / "latents.arrow") is None
    schema = pa.schema([("key", pa.string())], {"penumbra": "[1]"})  # JSON, but no object
    with pa.OSFile(str(tmp_path / "list.arrow"), "w") as sink, pa.ipc.new_file(sink, schema):
        pass
    assert candidates.made_from(tmp_path / "list.arrow") is None


@pytest.mark.parametrize("load", [images.load, latents.load, candidates.load])
def test_files_of_another_kind_are_named(tmp_path: Path, load) -> None:
    path = tmp_path / "thing"
    with pytest.raises(UserError, match="thing: not found; run `dvc repro"):
        load(path)
    path.write_bytes(b"neither parquet nor arrow")
    with pytest.raises(UserError, match="thing: not "):
        load(path)
