"""Image sets: parquet in the Hugging Face layout, a row an image, readable by `datasets` alone.

Columns: `image` = struct{bytes, path} (an encoded PNG or JPEG; `path` is the image's key), `label` = int64,
-1 for OOD. The schema's metadata holds the class names and the set's role.
"""

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image, UnidentifiedImageError

from pipeline.errors import UserError

OOD_LABEL = -1
ROW_GROUP = 1000  # images of a set that can be read by themselves
Role = Literal["id", "near", "far", "val-near", "val-far", "decoded"]
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


def encode_png(pixels: np.ndarray) -> bytes:
    """Lossless PNG of one image, uint8, (channels, height, width) with 1 or 3 channels."""
    array = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


def decode(data: bytes, name: str) -> np.ndarray:
    """Decode one 8-bit grey or RGB image to uint8, (channels, height, width).

    Raises:
        UserError: not an image, truncated, or of another mode.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except UnidentifiedImageError:
        raise UserError(f"{name}: not a readable image (of no known format); repair or remove the file") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{name}: not a readable image ({error}); repair or remove the file") from None
    if image.mode not in ("L", "RGB"):
        raise UserError(f"{name}: image mode {image.mode}, expected L (8-bit grey) or RGB; convert the file")
    array = np.asarray(image)
    return array[None] if image.mode == "L" else np.moveaxis(array, -1, 0)


def _metadata(classes: Sequence[str], role: Role) -> dict[str, str]:
    features = {"image": {"_type": "Image"}, "label": {"names": list(classes), "_type": "ClassLabel"}}
    return {
        "huggingface": json.dumps({"info": {"features": features}}),
        "penumbra": json.dumps({"classes": list(classes), "role": role}),
    }


def write(path: Path, pictures: Iterable[Picture], classes: Sequence[str], role: Role) -> None:
    """Write one image set in the given order."""
    rows = list(pictures)
    schema = pa.schema(COLUMNS, metadata=_metadata(classes, role))
    columns = [
        [{"bytes": picture.data, "path": picture.key} for picture in rows],
        [picture.label for picture in rows],
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = [pa.array(column, kind) for column, (_, kind) in zip(columns, COLUMNS, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path, row_group_size=ROW_GROUP)


class ImageFile:
    """An image set on disk, whose pieces can be read one by one: row groups of a parquet file.

    Attributes:
        classes: names of the ID classes.
        role: see `ImageSet`.
        sizes: images of each piece.

    Raises:
        UserError: the file is missing, has another schema, or is empty.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._file = pq.ParquetFile(path)
            about = json.loads((self._file.schema_arrow.metadata or {})[b"penumbra"])
        except FileNotFoundError:
            raise UserError(f"{path}: not found; run `dvc repro prepare`, or `dvc pull`") from None
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise UserError(f"{path}: not an image set of `prepare` ({error}); run `dvc repro prepare`") from None
        self.classes: list[str] = about["classes"]
        self.role: Role = about["role"]
        groups = range(self._file.metadata.num_row_groups)
        self.sizes = [self._file.metadata.row_group(group).num_rows for group in groups]
        if sum(self.sizes) == 0 or self.role not in get_args(Role):
            raise UserError(f"{path}: {sum(self.sizes)} images, role {self.role!r}; run `dvc repro prepare`")

    def read(self, pieces: Sequence[int]) -> ImageSet:
        """Read and decode some pieces.

        Raises:
            UserError: an unreadable image, or images of several shapes.
        """
        table = self._file.read_row_groups(list(pieces))
        images = table.column("image").to_pylist()
        arrays = [decode(image["bytes"], f"{self.path}: {image['path']}") for image in images]
        if len(shapes := {array.shape for array in arrays}) > 1:
            raise UserError(f"{self.path}: images of several shapes {sorted(shapes)}; run `dvc repro prepare`")
        labels = torch.tensor(table.column("label").to_pylist())
        keys = [image["path"] for image in images]
        return ImageSet(torch.from_numpy(np.stack(arrays)), labels, keys, self.classes, self.role)

    def load(self, piece: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels and labels of one piece."""
        found = self.read([piece])
        return found.pixels, found.labels


def load(path: Path) -> ImageSet:
    """Read and decode a whole image set.

    Raises:
        UserError: the file is missing, has another schema, is empty, or holds an unreadable image.
    """
    file = ImageFile(path)
    return file.read(range(len(file.sizes)))


def load_split(folder: Path, split: Literal["train", "val", "test"]) -> ImageSet:
    """Read one ID split of an image folder."""
    return load(folder / f"{split}.parquet")


def ood_sets(folder: Path) -> list[Path]:
    """The files of all OOD sets of an image folder, by name."""
    return sorted((folder / "ood").glob("*.parquet"))
