"""What a recipe takes out of outlier datasets, read back from the toy project with plain tarfile."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.artifacts.selection import Selection
from pipeline.runtime.errors import UserError
from pipeline.settings.check import METHODS, _kinds
from pipeline.synthesis.controls import NAMES
from pipeline.training.loaders import whole


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


@pytest.mark.parametrize("method", [*METHODS, *NAMES])
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
    with pytest.raises(UserError, match=r"outliers-000000\.tar: .* of .* samples of index\.parquet"):
        whole(Selection([folder], {"boundary": 60}))
    (folder / "index.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"index\.parquet: not readable"):
        Selection([folder], {"boundary": 60})
