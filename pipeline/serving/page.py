"""Predictions as one self-contained page: photographs, verdicts, and the ID photographs that are most like each."""

import base64
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from PIL import Image
from torch import Tensor
from torch.nn import functional

from pipeline.artifacts import images
from pipeline.artifacts.codec import decode
from pipeline.artifacts.outputs import OutputFile
from pipeline.runtime.console import printable
from pipeline.runtime.destination import Destination, Kind
from pipeline.serving import expected
from pipeline.serving.open_set import OpenSetClassifier

GENERATOR = "penumbra predict"
SIDE = 160  # pixels of a thumbnail
NEAREST = 3


def _strangers(path: Path) -> list[str]:
    """Nothing, for a page of predictions; raises ValueError where it is none."""
    if f'content="{GENERATOR}"' not in path.read_text(encoding="utf-8", errors="replace")[:1000]:
        raise ValueError("another page")
    return []


PAGE = Kind("page of predictions", is_folder=False, strangers=_strangers)


class Neighbours:
    """The ID training images that are most like an image, by the angle between features.

    Args:
        outputs: of a model on the training images, as `infer` wrote them.
        pictures: the training images, `train.parquet` of `prepare`.
        classes: names of the ID classes.
    """

    def __init__(self, outputs: Path, pictures: Path, classes: list[str]):
        known = OutputFile(outputs, "id").load()
        assert known.features is not None
        self.keys, self.labels, self.pictures, self.classes = known.keys, known.labels.tolist(), pictures, classes
        self.known = functional.normalize(known.features)
        self._shown: dict[str, str] = {}

    def of(self, features: Tensor) -> list[list[int]]:
        """Places of the nearest training images of each row, nearest first."""
        return (functional.normalize(features) @ self.known.T).topk(min(NEAREST, len(self.keys))).indices.tolist()

    def show(self, places: Iterable[int]) -> list[dict[str, str]]:
        """Class and thumbnail of training images."""
        return [{"class": self.classes[self.labels[i]], "picture": self._shown[self.keys[i]]} for i in places]

    def draw(self, places: Iterable[int]) -> None:
        """Make the thumbnails of training images, each once."""
        keys = sorted({self.keys[i] for i in places})
        for key, pixels in zip(keys, images.pick(self.pictures, keys), strict=True):
            self._shown[key] = thumbnail(pixels.numpy())


def thumbnail(pixels: np.ndarray) -> str:
    """uint8 (channels, h, w) as a small JPEG in a data URI."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)).convert("RGB")
    image.thumbnail((2 * SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def collect(rows: Iterable[dict[str, Any]], found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Pass rows on and keep them, with a thumbnail of each image."""
    for row in rows:
        if "error" not in row:
            path = Path(row["path"])
            found.append(row | {"picture": thumbnail(decode(path.read_bytes(), path.name, convert=True, upright=True))})
        yield row


def render(
    template: str, rows: list[dict[str, Any]], model: OpenSetClassifier, neighbours: Neighbours | None,
    false_alarms: float, failed: int,
) -> str:  # fmt: skip
    """A template of this folder with what is said of images, those with the smallest p-values first.

    Args:
        rows: of `collect`.
        failed: files that could not be read.
    """
    ordered = sorted(rows, key=lambda row: (row["p_value"], -row["score"], row["path"]))
    if neighbours is not None:
        neighbours.draw(i for row in rows for i in row["nearest"])
    shown = [
        row | {"path": printable(row["path"]), "nearest": neighbours.show(row["nearest"]) if neighbours else []}
        for row in ordered
    ]
    unknown = sum(row["verdict"] == "unknown" for row in rows)
    said = expected.summary(unknown, len(rows), model.validation, false_alarms) if rows else "no image could be read"
    escape, loader = select_autoescape(default=True), PackageLoader("pipeline", "serving")
    environment = Environment(loader=loader, autoescape=escape, undefined=StrictUndefined)
    return environment.get_template(template).render(
        rows=shown, unknown=unknown, summary=said, false_alarms=false_alarms, failed=failed, generator=GENERATOR,
        meanings=model.score.meanings,
    )  # fmt: skip


def write(target: Destination, text: str) -> None:
    """Write a page."""
    with target.writing() as path:
        path.write_text(text, encoding="utf-8")
