"""Judge image files, however many: a batch in memory, the next one read meanwhile."""

import glob
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from pipeline.artifacts.codec import decode, suffixes
from pipeline.artifacts.images import batched
from pipeline.classifier.networks import Classifier, at_once
from pipeline.runtime.console import printable
from pipeline.runtime.destination import Destination, Kind
from pipeline.runtime.errors import UserError
from pipeline.serving.open_set import OpenSetClassifier, judge
from pipeline.sources.preprocess import preprocess
from pipeline.sources.walk import Found, walk
from pipeline.training.batches import as_images
from pipeline.training.loaders import ahead

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("class", pa.string()),
        ("confidence", pa.float64()),
        ("score", pa.float64()),
        ("p_value", pa.float64()),
        ("verdict", pa.string()),
        ("reason", pa.string()),
        ("parts", pa.map_(pa.string(), pa.float64())),
        ("error", pa.string()),
    ]
)


def _strangers(path: Path) -> list[str]:
    """Nothing, for a file of predictions; raises ValueError where it is none."""
    if not pq.read_schema(path).equals(SCHEMA):
        raise ValueError("other columns")
    return []


PREDICTIONS = Kind("file of predictions", is_folder=False, strangers=_strangers)
Row = dict[str, Any]  # path, and either what `judge` says of an image, or error
Read = tuple[list[Path], list[np.ndarray | str]]  # files, and of each its pixels or why there are none


def find(patterns: Iterable[str]) -> Found:
    """Image files that are named one by one, by folder (with all its folders) or by glob, each once.

    Raises:
        UserError: a name that leads to no file, or none that leads to an image.
    """
    found = Found()
    for pattern in patterns:
        matches = glob.glob(pattern, recursive=True)  # noqa: PTH207  Path.glob takes no absolute patterns
        places = [Path(pattern)] if Path(pattern).exists() else sorted(map(Path, matches))
        if not places:
            raise UserError(f"{printable(pattern)}: no such file, folder or glob")
        for place in places:
            found.add(walk(place) if place.is_dir() else Found([place]))
    if not found.images:
        seen = f", only {found.summary()}" if found.left_out else ""
        expected = f"expected files that end in {', '.join(sorted(suffixes()))}"
        raise UserError(printable(f"{', '.join(patterns)}: no image{seen}; {expected}"))
    found.images = list(dict.fromkeys(found.images))
    return found


def predict(
    model: OpenSetClassifier, paths: Sequence[Path], batch: int, false_alarms: float,
    nearest: Callable[[Tensor], list[Any]] | None = None,
) -> Iterator[Row]:  # fmt: skip
    """Judge files in order; one that cannot be read gets its reason under `error` and nothing else.

    Args:
        false_alarms: share of known images that may be called unknown, 0..1.
        nearest: see `judge`.
    """
    device, classifier = next(model.parameters()).device, model.classifier
    batch = at_once(classifier.channels * classifier.size**2, batch, device)

    def read(part: list[Path]) -> Read:
        return part, [_read(path, model.classifier) for path in part]

    for part, read_files in ahead(read, batched(paths, batch)):
        readable = [pixels for pixels in read_files if isinstance(pixels, np.ndarray)]
        images = as_images(torch.from_numpy(np.stack(readable)).to(device)) if readable else None
        judged = iter(judge(model, images, false_alarms, nearest) if images is not None else [])
        for path, pixels in zip(part, read_files, strict=True):
            yield {"path": str(path)} | ({"error": pixels} if isinstance(pixels, str) else next(judged))


def _read(path: Path, classifier: Classifier) -> np.ndarray | str:
    if not path.is_file():  # a named pipe would be waited for without end
        return "not a file, or a link that leads nowhere"
    try:
        pixels = decode(path.read_bytes(), path.name, convert=True, upright=True)
        return preprocess(pixels, classifier.size, classifier.channels, classifier.resize)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    except UserError as error:
        return str(error).removeprefix(f"{path.name}: ")


def line(row: Row, as_json: bool) -> str:
    """One row for a person, or as JSON, in which a name that is no UTF-8 comes back as Python has it."""
    if as_json:
        text = json.dumps(row, ensure_ascii=False)
        return text.encode("utf-8", "backslashreplace").decode()
    if "error" in row:
        return printable(f"skipped  {row['path']}: {row['error']}")
    numbers = f"{row['p_value']:>7.4f} {row['confidence']:>6.1%} {row['score']:>9.4f}"
    why = f"  ({row['reason']})" if row["reason"] else ""
    return printable(f"{row['verdict']:<8} {numbers}  {row['class']:<16} {row['path']}{why}")


HEADER = f"{'verdict':<8} {'p':>7} {'sure':>6} {'score':>9}  {'class':<16} path"


def write_parquet(rows: Iterable[Row], target: Destination, batch: int) -> Iterator[Row]:
    """Pass rows on and write them to a parquet file, which appears whole at the end."""
    with target.writing() as path, pq.ParquetWriter(path, SCHEMA) as writer:
        for part in batched(rows, batch):
            shown = [row | {"path": printable(row["path"])} for row in part]
            writer.write_table(pa.Table.from_pylist(shown, SCHEMA))
            yield from part
