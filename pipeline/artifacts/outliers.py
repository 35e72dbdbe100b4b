"""The outlier dataset: WebDataset shards, their index, and what they are. Readable without this project.

- `NAME-METHOD-000000.tar ...`, one method in each: for each sample `KEY.json`, `KEY.latent.npy` (float16, C x h x w,
  raw), `KEY.png`, which is marked: see marks.py.
- `index.parquet`: one row per sample; `rejected.parquet`: one row per rejected candidate, with the reason.
- `dataset.json`: schema version, counts, checksums, audit, origin: see dataset_json.py. `README.md`: a dataset card.
"""

import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from pipeline.artifacts import dataset_json
from pipeline.artifacts.codec import encode_png
from pipeline.artifacts.marks import XMP
from pipeline.runtime.console import track
from pipeline.runtime.errors import UserError, first_problem, one_line
from pipeline.runtime.files import sha256
from pipeline.runtime.processes import gather, is_first, share

SHARD = re.compile(r"[a-z][a-z0-9+-]*-\d{6}\.tar")  # a bare file name: no folder, no `pipe:`, no address
KEY = re.compile(r"[0-9]+")
FIELDS = [
    ("method", pa.string()),  # boundary, mixup, noise, ...
    ("label", pa.int64()),  # -1 for an outlier; a class index for a control that is ID
    ("parent_a", pa.int64()),  # class indices; -1 where there is no parent
    ("parent_b", pa.int64()),
    ("strength", pa.float32()),  # in the unit of its method: `methods` of dataset.json says which
    ("source", pa.string()),  # key of the ID image it started from, or ""
    ("candidate", pa.int64()),  # row in the method's candidates: (seed, candidate) makes the sample again
    ("distance", pa.float32()),  # to the k-th nearest ID training latent, in standard deviations
    ("confidence", pa.float32()),  # the teacher's largest probability
    ("seed", pa.int64()),
]
INDEX = pa.schema([("key", pa.string()), ("shard", pa.string()), *FIELDS])
REJECTED = pa.schema([*FIELDS, ("reason", pa.string())])


Class = Annotated[int, Field(ge=-1, lt=2**31)]  # an index, or -1 for none


Number = Annotated[float, Field(allow_inf_nan=False)]


class Fields(TypedDict):
    """What `KEY.json` holds, the columns of `FIELDS`."""

    method: str
    label: Class
    parent_a: Class
    parent_b: Class
    strength: Number
    source: str
    candidate: int
    distance: Number
    confidence: Number
    seed: int


FIELDS_CHECK = TypeAdapter(Fields)


@dataclass(frozen=True)
class Sample:
    """One sample: an encoded image, its raw latent as a .npy file, and its index fields (see `FIELDS`)."""

    image: bytes
    latent: bytes
    fields: dict[str, Any]


def encode_sample(pixels: np.ndarray, raw_latent: np.ndarray, fields: dict[str, Any], xmp: str) -> Sample:
    """A sample from uint8 pixels (channels, size, size), a raw latent (C, h, w), stored as float16, and its mark."""
    buffer = io.BytesIO()
    np.save(buffer, raw_latent.astype(np.float16), allow_pickle=False)
    return Sample(encode_png(pixels, {XMP: xmp}), buffer.getvalue(), fields)


def pack(
    folder: Path, name: str, counts: Mapping[str, int], sample: Callable[[str, int], Sample], per_shard: int
) -> list[dict[str, Any]]:
    """Write the shards and index.parquet of an outlier dataset; equal samples give equal bytes.

    A shard holds one method, so that a reader gets just the methods it names. Processes share the shards; one sample is
    in memory at a time.

    Args:
        folder: an existing, empty folder, the same one in every process.
        name: of the dataset, with which the shards' names begin, lower-case letters.
        counts: number of samples of each method.
        sample: gives a method's sample i.
        per_shard: samples in a shard, at most.

    Returns:
        name, sha256 and number of samples of each shard.
    """
    import webdataset as wds  # here, for it and `parts` import torch, which `outliers show` does without

    from pipeline.runtime.resumable import ranges

    pieces = {
        f"{name}-{method}-{number:06d}.tar": (method, piece)
        for method, count in counts.items()
        for number, piece in enumerate(ranges(count, per_shard))
    }
    before = dict(zip(counts, accumulate(counts.values(), initial=0), strict=False))  # samples of earlier methods
    rows, own = [], share(list(pieces))
    for shard in track(own, f"pack {name}", len(own)):
        method, piece = pieces[shard]
        # an integer mtime of 0: reproducible, and half the bytes of webdataset's default
        with wds.TarWriter(str(folder / shard), mtime=0) as writer:
            for i in piece:
                key, made = f"{before[method] + i:08d}", sample(method, i)
                rows.append({"key": key, "shard": shard} | made.fields)
                fields = json.dumps(made.fields, sort_keys=True).encode()
                writer.write({"__key__": key, "json": fields, "latent.npy": made.latent, "png": made.image})
    rows = gather(rows)
    if is_first():
        index = sorted(rows, key=lambda row: row["key"])
        pq.write_table(pa.Table.from_pylist(index, INDEX), folder / "index.parquet")
    return [{"name": shard, "sha256": sha256(folder / shard), "samples": len(pieces[shard][1])} for shard in pieces]


def write_rejected(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write rejected.parquet: the index fields of each rejected candidate, and the reason."""
    pq.write_table(pa.Table.from_pylist(rows, REJECTED), folder / "rejected.parquet")


def verify(folder: Path) -> dict[str, Any]:
    """Check an outlier dataset's dataset.json, file names and checksums; returns its dataset.json.

    Raises:
        UserError: a file is missing, damaged, of another schema, not named as a shard, or listed twice.
    """
    about = dataset_json.read(folder)
    names = [shard["name"] for shard in about["shards"]]
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise UserError(f"{folder}: dataset.json lists the shard {twice[0]!r} twice; do not trust this set")
    for shard in about["shards"]:
        if not SHARD.fullmatch(shard["name"]):
            expected = "NAME-METHOD-000000.tar; do not trust this set"
            raise UserError(f"{folder}: shard name {shard['name']!r}, expected {expected}")
        path = folder / shard["name"]
        if not path.is_file():
            raise UserError(f"{path}: not found, though dataset.json names it; `dvc pull` the folder again")
        if (found := sha256(path)) != shard["sha256"]:
            raise UserError(f"{path}: sha256 {found}, expected {shard['sha256']}; the file is damaged, get it again")
    return about


def read(folder: Path, about: dict[str, Any]) -> Iterator[tuple[str, Sample]]:
    """Every sample of a verified dataset with its name `SHARD: KEY`, in the index's order, not decoded.

    Raises:
        UserError: a shard is not a tar of samples, a key is not one, a member is missing, or its JSON is of another
            form.
    """
    import webdataset as wds

    classes = len(about["id"]["classes"])
    for path in (folder / shard["name"] for shard in about["shards"]):
        try:
            # every process reads all
            for members in wds.WebDataset([str(path)], shardshuffle=False, nodesplitter=None, empty_check=False):
                name = f"{path.name}: {members['__key__']}"
                yield name, _sample(members, name, classes)
        except (tarfile.TarError, ValueError, OSError, EOFError) as error:
            raise UserError(f"{path}: not a tar of samples ({_reason(error)}); get the dataset again") from None


def _reason(error: Exception) -> str:
    """What went wrong, without the streams and lists of keys that webdataset adds to a library's message."""
    said = str(error) if isinstance(error, OSError) else str(error.args[0])
    return re.split(r" @ <| dict_keys\(", said)[0]


def latent_of(sample: Sample, name: str) -> np.ndarray:
    """A sample's raw latent, finite float16 (C, h, w).

    Raises:
        UserError: it is not such an array; nothing larger than the file is ever allocated, nothing is unpickled.
    """
    file = io.BytesIO(sample.latent)
    try:
        if (version := np.lib.format.read_magic(file)) != (1, 0):
            raise ValueError(f"version {version} of the format")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype != np.float16 or len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"{dtype} {shape}")
        array = np.frombuffer(sample.latent, np.float16, offset=file.tell()).reshape(shape)
        if not np.isfinite(array).all():
            raise ValueError("NaN or infinite values")
    except Exception as error:  # NumPy reads the header as Python: its tokeniser's errors and others come through
        problem = f"{one_line(error)[:200]}; expected finite float16 (C, h, w)"
        raise UserError(f"{name}.latent.npy: {problem}; do not trust this set") from None
    return array


def _sample(members: dict[str, Any], name: str, classes: int) -> Sample:
    """One sample from its members.

    Raises:
        UserError: its key is not one, a member is missing, or its JSON is of another form.
    """
    if not KEY.fullmatch(members["__key__"]):
        raise UserError(f"{name}: a key that is not of digits alone; do not trust this set")
    if missing := {"json", "latent.npy", "png"} - set(members):
        raise UserError(f"{name}: no plain file {' or '.join(sorted(missing))} in the tar; get the dataset again")
    try:
        fields = FIELDS_CHECK.validate_json(members["json"], strict=True)
    except ValidationError as error:
        raise UserError(f"{name}.json: {first_problem(error)}; get the dataset again") from None
    # the keys alone count here; pydantic takes the last of two
    keys = json.loads(members["json"], object_pairs_hook=lambda pairs: [key for key, _ in pairs], parse_int=str)
    if twice := [key for key, times in Counter(keys).items() if times > 1]:
        raise UserError(f"{name}.json: {twice[0]} stands twice; get the dataset again")
    if (largest := max(fields["label"], fields["parent_a"], fields["parent_b"])) >= classes:
        raise UserError(f"{name}.json: class {largest}, expected at most {classes - 1} of {classes}; get another set")
    return Sample(members["png"], members["latent.npy"], dict(fields))
