"""Judge image files, however many: a batch in memory, the next one read meanwhile."""

import glob
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline.artifacts.codec import decode
from pipeline.artifacts.files import replacing
from pipeline.artifacts.images import batched
from pipeline.errors import UserError
from pipeline.learning.networks import Classifier, as_images
from pipeline.learning.pools import ahead
from pipeline.serving.open_set import OpenSetClassifier, judge
from pipeline.sources.preprocess import conform

EXTENSIONS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("class", pa.string()),
        ("confidence", pa.float64()),
        ("score", pa.float64()),
        ("verdict", pa.string()),
        ("error", pa.string()),
    ]
)
Row = dict[str, Any]  # path, and either class, confidence, score and verdict, or error
Read = tuple[list[Path], list[np.ndarray | str]]  # files, and of each its pixels or why there are none


def find(patterns: Iterable[str]) -> list[Path]:
    """Image files that are named one by one, by folder (with all its folders) or by glob, each once.

    Raises:
        UserError: a name that leads to no file, or none that leads to an image.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        matches = glob.glob(pattern, recursive=True)  # noqa: PTH207  Path.glob takes no absolute patterns
        places = [Path(pattern)] if Path(pattern).exists() else sorted(map(Path, matches))
        if not places:
            raise UserError(f"{pattern}: no such file, folder or glob")
        for place in places:
            inside = sorted(path for path in place.rglob("*") if path.suffix.lower() in EXTENSIONS)
            found |= dict.fromkeys(inside if place.is_dir() else [place])
    if not found:
        raise UserError(f"{', '.join(patterns)}: no image; expected files that end in {', '.join(sorted(EXTENSIONS))}")
    return list(found)


def predict(model: OpenSetClassifier, paths: Sequence[Path], batch: int) -> Iterator[Row]:
    """Judge files in order; one that cannot be read gets its reason under `error` and nothing else."""
    device = next(model.parameters()).device

    def read(part: list[Path]) -> Read:
        return part, [_read(path, model.classifier) for path in part]

    for part, read_files in ahead(read, batched(paths, batch)):
        readable = [pixels for pixels in read_files if isinstance(pixels, np.ndarray)]
        images = as_images(torch.from_numpy(np.stack(readable)).to(device)) if readable else None
        judged = iter(judge(model, images) if images is not None else [])
        for path, pixels in zip(part, read_files, strict=True):
            yield {"path": str(path)} | ({"error": pixels} if isinstance(pixels, str) else next(judged))


def _read(path: Path, classifier: Classifier) -> np.ndarray | str:
    if not path.is_file():  # a named pipe would be waited for without end
        return "not a file, or a link that leads nowhere"
    try:
        pixels = decode(path.read_bytes(), path.name, convert=True, upright=True)
        return conform(pixels, path.name, classifier.size, classifier.channels, classifier.resize)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    except UserError as error:
        return str(error).removeprefix(f"{path.name}: ")


def line(row: Row, as_json: bool) -> str:
    """One row for a person, or as JSON."""
    if as_json:
        return json.dumps(row, ensure_ascii=False)
    if "error" in row:
        return f"skipped  {row['path']}: {row['error']}"
    return f"{row['verdict']:<8} {row['confidence']:>6.1%} {row['score']:>9.4f}  {row['class']:<16} {row['path']}"


HEADER = f"{'verdict':<8} {'sure':>6} {'score':>9}  {'class':<16} path"


def write_parquet(rows: Iterable[Row], target: Path, batch: int) -> Iterator[Row]:
    """Pass rows on and write them to a parquet file, which appears whole at the end."""
    with replacing(target) as path, pq.ParquetWriter(path, SCHEMA) as writer:
        for part in batched(rows, batch):
            writer.write_table(pa.Table.from_pylist(part, SCHEMA))
            yield from part
