"""What people look at of packed images: signs that tell them from ID images, their quality, their place on a map."""

from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.artifacts.images import ImageSet
from pipeline.artifacts.pictures import contact_sheet, map_of
from pipeline.artifacts.pieces import evenly
from pipeline.console import track
from pipeline.learning.networks import predict
from pipeline.synthesis import audit, quality
from pipeline.synthesis.judging import BATCH, Judge, Judged

GRID_CLASSES = 20  # classes shown in the class grid


def shortcuts(judge: Judge, val_set: ImageSet, decoded: Tensor, groups: list[Judged]) -> dict[str, Any]:
    """The audit: each method's accepted images against plain ID validation images and against decoded ones."""
    report: dict[str, Any] = {}
    for judged in track(groups, "audit", len(groups)):
        own = judged.pixels[judged.accepted]
        vectors = judge.scaled(judged.found.raw_latents[judged.accepted])
        report[f"decoded id against {judged.method}"] = audit.telltale(decoded, own)
        report[f"id against {judged.method}"] = audit.telltale(val_set.pixels, own)
        report[f"diversity of {judged.method}"] = audit.diversity(vectors, own)
    return report


def measure_quality(judge: Judge, val_set: ImageSet, groups: list[Judged]) -> dict[str, dict[str, float]]:
    """How near the generators come to ID: synthetic and decoded ID images, and ID training images as the bound."""
    sets = {judged.method: (judged.pixels, judged.labels) for judged in groups if bool((judged.labels >= 0).all())}
    sets["id training images"] = (judge.train_set.pixels, judge.train_set.labels)
    held_out = predict(judge.teacher, val_set.pixels, BATCH)[1]
    count = min(len(labels) for _, labels in sets.values())  # the distance depends on the number of images
    report = {}
    for name, (pixels, labels) in sets.items():
        rows = evenly(count, len(labels))
        logits, features = predict(judge.teacher, pixels[rows], BATCH)
        report[name] = {
            "frechet": round(quality.frechet_distance(features, held_out), 4),
            "agreement": round(quality.agreement(logits, labels[rows]), 2),
        }
    return report


def draw_map(path: Path, judge: Judge, groups: list[Judged], per_method: int) -> None:
    """Where the packed outliers of each method lie beside ID latents."""
    own = {one.method: judge.scaled(one.found.raw_latents[one.choose(per_method)]).numpy() for one in groups}
    map_of(path, judge.scaled(judge.train_latents).numpy(), own)


def draw_classes(path: Path, classes: list[str], groups: list[Judged]) -> None:
    """Synthetic ID images, a row a class."""
    synthetic = next(own for own in groups if own.method == "synthetic-id")
    rows = quality.by_class(synthetic.pixels, synthetic.labels, min(GRID_CLASSES, len(classes)))
    contact_sheet(path, [{name: pixels} for name, pixels in zip(classes, rows, strict=False)], rows=1)
