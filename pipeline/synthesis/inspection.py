"""What people look at of packed images: signs that tell them from ID images, their quality, their place on a map."""

from pathlib import Path
from typing import Literal

from torch import Tensor

from pipeline.artifacts.dataset_json import Diversity, Separation
from pipeline.artifacts.images import ImageSet
from pipeline.artifacts.pictures import contact_sheet, map_of
from pipeline.artifacts.pieces import evenly
from pipeline.classifier.networks import predict
from pipeline.runtime.console import track
from pipeline.shortcuts import audit
from pipeline.synthesis import quality
from pipeline.synthesis.judging import BATCH, Judge, Judged

GRID_CLASSES = 20  # classes shown in the class grid


def audit_of(judge: Judge, val_pixels: Tensor, decoded: Tensor, groups: list[Judged]) -> list[Separation | Diversity]:
    """The audit of each method's accepted images: what tells them from ID validation images, and their diversity.

    Args:
        val_pixels, decoded: the ID validation images as they are, and as the decoder shows them; uint8
            (n, channels, size, size).
    """
    rows: list[Separation | Diversity] = []
    for judged in track(groups, "audit", len(groups)):
        own = judged.pixels[judged.accepted]
        vectors = judge.scaled(judged.found.raw_latents[judged.accepted])
        rows.append(separation(judged.method, "decoded", decoded, own))
        rows.append(separation(judged.method, "id", val_pixels, own))
        nearest, duplicates = audit.diversity(vectors, own)
        rows.append({"kind": "diversity", "method": judged.method, "nearest": nearest, "duplicates": duplicates})
    return rows


def separation(method: str | None, reference: Literal["id", "decoded"], known: Tensor, pixels: Tensor) -> Separation:
    """A row of the audit."""
    found = audit.telltale(known, pixels)
    return {"kind": "separation", "method": method, "reference": reference, "auroc": found}


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
