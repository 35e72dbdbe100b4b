"""Image sets: parquet in the Hugging Face layout, one row per image, readable by `datasets` alone.

Columns: `image` = struct{bytes, path} (an encoded PNG or JPEG; `path` is the image's key), `label` = int64,
-1 for OOD. The schema's metadata holds the class names and the set's role.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Literal, TypeVar, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline.artifacts.codec import decode
from pipeline.artifacts.roles import Role
from pipeline.runtime.console import track
from pipeline.runtime.errors import UserError
from pipeline.runtime.layout import IMAGES

ROW_GROUP = 1000  # images of a set that can be read by themselves
IN_MEMORY = 2**32  # bytes of pixels: more of them stay in a file that the system pages in and out
T = TypeVar("T")
COLUMNS = [
    ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    ("label", pa.int64()),
]


@dataclass(frozen=True)
class Picture:
    """One encoded image: `label` is a class index, or -1 for OOD; `key` is unique in its set."""

    key: str
    data: bytes
    label: int


@dataclass(frozen=True)
class Preprocessing:
    """How the images of a set were made, and are to be normalised.

    Attributes:
        resize: the shorter side in pixels, before the centre crop.
        mean, std: in 0..1, one a channel; none: those of the training images.
    """

    resize: int
    mean: list[float] | None = None
    std: list[float] | None = None


@dataclass(frozen=True)
class ImageSet:
    """Decoded images of one set.

    Attributes:
        pixels: uint8, (n, channels, size, size).
        labels: int64, (n,); -1 for OOD.
        keys: n names, unique in the set.
        classes: names of the ID classes.
        role: what the set is for: `id`, or OOD for testing (`near`, `far`) or for choices (`val-near`,
            `val-far`); `decoded` for ID images that went through an autoencoder.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    keys: list[str]
    classes: list[str]
    role: Role

    def __len__(self) -> int:
        return len(self.keys)


def _metadata(classes: Sequence[str], role: Role, preprocessing: Preprocessing) -> dict[str, str]:
    features = {"image": {"_type": "Image"}, "label": {"names": list(classes), "_type": "ClassLabel"}}
    return {
        "huggingface": json.dumps({"info": {"features": features}}),
        "penumbra": json.dumps({"classes": list(classes), "role": role} | {"preprocessing": asdict(preprocessing)}),
    }


def write(
    path: Path, pictures: Iterable[Picture], classes: Sequence[str], role: Role, preprocessing: Preprocessing
) -> int:
    """Write one image set in the given order, a row group at a time; returns the number of its images."""
    schema, count = pa.schema(COLUMNS, metadata=_metadata(classes, role, preprocessing)), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, schema) as writer:
        for rows in batched(pictures, ROW_GROUP):
            columns = [
                [{"bytes": picture.data, "path": picture.key} for picture in rows],
                [picture.label for picture in rows],
            ]
            arrays = [pa.array(column, kind) for column, (_, kind) in zip(columns, COLUMNS, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=ROW_GROUP)
            count += len(rows)
    return count


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` items."""
    left = iter(items)
    while part := list(islice(left, size)):
        yield part


class ImageFile:
    """An image set on disk, whose pieces can be read one by one: row groups of a parquet file.

    Attributes:
        classes: names of the ID classes.
        role: see `ImageSet`.
        preprocessing: of the images.
        sizes: images of each piece.

    Raises:
        UserError: the file is missing, has another schema, or is empty.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._file = pq.ParquetFile(path)
            about = json.loads((self._file.schema_arrow.metadata or {})[b"penumbra"])
            self.classes: list[str] = about["classes"]
            self.role: Role = about["role"]
            self.preprocessing = Preprocessing(**about["preprocessing"])
        except FileNotFoundError:
            raise UserError(f"{path}: not found; run `dvc repro prepare`, or `dvc pull`") from None
        except (pa.ArrowException, KeyError, ValueError, TypeError) as error:
            raise UserError(f"{path}: not an image set of `prepare` ({error}); run `dvc repro prepare`") from None
        groups = range(self._file.metadata.num_row_groups)
        self.sizes = [self._file.metadata.row_group(group).num_rows for group in groups]
        if sum(self.sizes) == 0 or self.role not in get_args(Role):
            raise UserError(f"{path}: {sum(self.sizes)} images, role {self.role!r}; run `dvc repro prepare`")

    def read(self, piece: int) -> ImageSet:
        """Read and decode one piece.

        Raises:
            UserError: an unreadable image, or images of several shapes.
        """
        table = self._file.read_row_group(piece)
        images = table.column("image").to_pylist()
        arrays = [decode(image["bytes"], f"{self.path}: {image['path']}") for image in images]
        if len(shapes := {array.shape for array in arrays}) > 1:
            raise UserError(f"{self.path}: images of several shapes {sorted(shapes)}; run `dvc repro prepare`")
        labels = torch.tensor(table.column("label").to_pylist())
        keys = [image["path"] for image in images]
        return ImageSet(torch.from_numpy(np.stack(arrays)), labels, keys, self.classes, self.role)

    def names(self, piece: int) -> tuple[list[str], torch.Tensor]:
        """Keys and labels of one piece; decodes no image."""
        table = self._file.read_row_group(piece, columns=["image.path", "label"])
        keys = [image["path"] for image in table.column("image").to_pylist()]
        return keys, torch.tensor(table.column("label").to_pylist())

    def load(self, piece: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels and labels of one piece."""
        found = self.read(piece)
        return found.pixels, found.labels


def mixed(items: Sequence[T]) -> list[T]:
    """Images in the order to write a training set in: as given, or shuffled where they do not fit into one row group.

    Training mixes some row groups at a time, and each should be a fair part of the whole.
    """
    if len(items) <= ROW_GROUP:
        return list(items)
    return [items[i] for i in np.random.default_rng(0).permutation(len(items))]


def load(path: Path) -> ImageSet:
    """Read and decode a whole image set, a piece at a time; a large one into a file that the system pages in and out.

    Raises:
        UserError: the file is missing, has another schema, is empty, or holds an unreadable image.
    """
    file = ImageFile(path)
    labels: list[torch.Tensor] = []
    keys: list[str] = []
    pixels = torch.empty(0)
    pieces = range(len(file.sizes))
    for piece in track(pieces, f"read {path.stem}", len(pieces)):
        part = file.read(piece)
        shape = part.pixels.shape[1:]
        if piece == 0:
            pixels = _room((sum(file.sizes), *shape))
        if shape != pixels.shape[1:]:
            shapes = sorted({tuple(shape), tuple(pixels.shape[1:])})
            raise UserError(f"{path}: images of several shapes {shapes}; run `dvc repro prepare`")
        pixels[len(keys) : len(keys) + len(part)] = part.pixels
        labels.append(part.labels)
        keys += part.keys
    return ImageSet(pixels, torch.cat(labels), keys, file.classes, file.role)


def _room(shape: tuple[int, ...]) -> torch.Tensor:
    """An uninitialised uint8 tensor: in memory, or in a file without a name that goes with it, even after a kill."""
    if (size := math.prod(shape)) < IN_MEMORY:
        return torch.empty(shape, dtype=torch.uint8)
    with NamedTemporaryFile(dir=IMAGES.parent, prefix=".pixels-") as file:
        file.truncate(size)
        return torch.from_file(file.name, shared=True, size=size, dtype=torch.uint8).view(shape)


def pick(path: Path, keys: Sequence[str]) -> torch.Tensor:
    """Pixels of some images of a set, uint8 (n, channels, size, size), in the order of the keys; reads no others.

    Raises:
        UserError: the file is missing or damaged, or an image is not in it.
    """
    from pyarrow.compute import field  # here, for pyarrow.dataset imports pandas
    from pyarrow.dataset import dataset

    try:
        table = dataset(path).to_table(columns=["image"], filter=field("image", "path").isin(list(keys)))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UserError(f"{path}: cannot be read ({error}); run `dvc repro prepare`, or `dvc pull`") from None
    found = {image["path"]: image["bytes"] for image in table.column("image").to_pylist()}
    if missing := [key for key in keys if key not in found]:
        raise UserError(f"{path}: no image {missing[0]!r}, which the scores name; run `dvc repro infer`")
    return torch.from_numpy(np.stack([decode(found[key], f"{path}: {key}") for key in keys]))


def load_split(folder: Path, split: Literal["train", "val", "test"]) -> ImageSet:
    """Read one ID split of an image folder."""
    return load(folder / f"{split}.parquet")


def ood_sets(folder: Path) -> list[Path]:
    """The files of all OOD sets of an image folder, by name."""
    return sorted((folder / "ood").glob("*.parquet"))
