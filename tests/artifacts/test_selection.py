"""What a recipe takes out of outlier datasets, read back from the toy project with plain tarfile."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.artifacts import dataset_json, outliers
from pipeline.artifacts.codec import decode, encode_png
from pipeline.artifacts.marks import XMP
from pipeline.artifacts.outliers import Sample
from pipeline.artifacts.selection import Selection
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import write_json
from pipeline.settings.rules import _kinds
from pipeline.training.loaders import whole
from tests.conftest import toy_params


def members(folder: Path, method: str) -> list[tuple[np.ndarray, np.ndarray, dict]]:
    """Image, latent and fields of each sample of a method, in the shards' order."""
    found = []
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as tar:
            content = {member.name: tar.extractfile(member).read() for member in tar}
        for key in sorted({name.split(".")[0] for name in content}):
            fields = json.loads(content[f"{key}.json"])
            if fields["method"] == method:
                image = np.asarray(Image.open(io.BytesIO(content[f"{key}.png"])))[None]
                found.append((image, np.load(io.BytesIO(content[f"{key}.latent.npy"])), fields))
    return found


def test_the_first_of_each_method_come_whole_and_in_order(project: Path) -> None:
    folders = [project / "data/outliers", project / "data/controls"]
    selection = Selection(folders, {"noise": 20, "boundary": 30})
    expected = members(folders[0], "boundary")[:30] + members(folders[1], "noise")[:20]
    pixels, labels = whole(selection)
    assert torch.equal(pixels, torch.from_numpy(np.stack([image for image, _, _ in expected])))
    assert labels.tolist() == [-1] * 50 and selection.has_outliers and sum(selection.sizes) == 50
    latents, parents = selection.latents()
    assert torch.equal(latents, torch.from_numpy(np.stack([latent for _, latent, _ in expected])).float())
    assert parents.tolist() == [[fields["parent_a"], fields["parent_b"]] for _, _, fields in expected]


def test_further_id_images_keep_their_class(project: Path) -> None:
    selection = Selection([project / "data/controls"], {"synthetic-id": 20})
    expected = [fields["label"] for _, _, fields in members(project / "data/controls", "synthetic-id")[:20]]
    assert whole(selection)[1].tolist() == expected and not selection.has_outliers


@pytest.mark.parametrize("method", toy_params()["methods"])
def test_what_the_images_are_is_known_from_the_name_of_our_methods(project: Path, method: str) -> None:
    """`check` judges recipes by names, and `train` by what it reads: they agree."""
    found = Selection([project / "data/outliers", project / "data/controls"], {method: 20})
    kinds = {name: getattr(found, name) for name in ("has_outliers", "has_id_images", "has_parents")}
    assert kinds == _kinds([method])


def test_too_few_images_are_named(project: Path) -> None:
    with pytest.raises(UserError, match="boundary: 60 images in .*outliers, expected 61; lower train.auxiliary_count"):
        Selection([project / "data/outliers"], {"boundary": 61})


def test_an_index_that_promises_more_than_the_shards_hold(project: Path, tmp_path: Path) -> None:
    import shutil

    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = Path(shutil.copytree(project / "data/outliers", tmp_path / "set"))
    table = pq.read_table(folder / "index.parquet").to_pylist()
    table[0]["key"] = "99999999"
    pq.write_table(pa.Table.from_pylist(table), folder / "index.parquet")
    with pytest.raises(UserError, match=r"outliers-boundary-000000\.tar: .* of .* samples of index\.parquet"):
        whole(Selection([folder], {"boundary": 60}))
    (folder / "index.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"index\.parquet: not readable"):
        Selection([folder], {"boundary": 60})


def test_the_digest_is_of_the_selected_samples_alone(project: Path, tmp_path: Path) -> None:
    """The same wherever they are packed, and beside whatever; another one where any of what is read changes."""
    folders = [project / "data/outliers", project / "data/controls"]
    digest = Selection(folders, {"noise": 20, "boundary": 30}).digest()
    assert digest == Selection(folders, {"boundary": 30, "noise": 20}).digest()
    assert digest != Selection(folders, {"noise": 20, "boundary": 29}).digest()
    alone = tmp_path / "alone"
    samples = [sample for _, sample in outliers.read(folders[0], dataset_json.read(folders[0]))]
    wanted = [sample for sample in samples if sample.fields["method"] == "boundary"]
    of_boundary = Selection([repacked(alone, wanted, folders[0])], {"boundary": 30}).digest()
    assert of_boundary == Selection(folders, {"boundary": 30}).digest()
    marked = [replace(sample, image=encode_png(decode(sample.image, "own"), {XMP: "another"})) for sample in wanted]
    assert Selection([repacked(tmp_path / "marked", marked, folders[0])], {"boundary": 30}).digest() == of_boundary
    changes = {
        "image": replace(wanted[3], image=wanted[4].image),
        "latent": replace(wanted[3], latent=wanted[4].latent),
        "parent": replace(wanted[3], fields=wanted[3].fields | {"parent_b": 5 - wanted[3].fields["parent_b"]}),
    }
    for name, changed in changes.items():
        folder = repacked(tmp_path / name, [*wanted[:3], changed, *wanted[4:]], folders[0])
        assert Selection([folder], {"boundary": 30}).digest() != of_boundary, name
    swapped = repacked(tmp_path / "order", [wanted[1], wanted[0], *wanted[2:]], folders[0])
    assert Selection([swapped], {"boundary": 30}).digest() != of_boundary


def repacked(folder: Path, samples: list[Sample], source: Path) -> Path:
    """A dataset of these samples, otherwise described as another."""
    folder.mkdir()
    shards = outliers.pack(folder, "outliers", {"boundary": len(samples)}, lambda _, i: samples[i], 25)
    write_json(folder / "dataset.json", dataset_json.read(source) | {"shards": shards})
    return folder


def test_what_was_made_from_a_class_that_is_left_out_is_passed_over(project: Path) -> None:
    folder = project / "data/outliers"
    found = Selection([folder], {"boundary": 40, "mixup": 40}, left_out={0, 2})
    expected = [
        own
        for method in ("boundary", "mixup")
        for own in members(folder, method)[:40]
        if not {own[2]["parent_a"], own[2]["parent_b"]} & {0, 2}
    ]
    assert 0 < sum(found.sizes) == len(expected) < 80
    parents = found.latents()[1].tolist()
    assert sorted(parents) == sorted([own[2]["parent_a"], own[2]["parent_b"]] for own in expected)
    keys = [key for piece in range(len(found.sizes)) for key in found.names(piece)[0]]
    assert len(set(keys)) == len(expected) and {found.folder(piece) for piece in range(len(found.sizes))} == {folder}
