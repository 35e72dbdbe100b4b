"""What people want to know of packed images: what tells them from ID images, how alike they are, how good."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from pipeline.artifacts.chunks import evenly
from pipeline.artifacts.dataset_json import Diversity, Separation
from pipeline.artifacts.images import ImageSet
from pipeline.classifier.networks import Classifier, predict
from pipeline.runtime.console import track
from pipeline.shortcuts import audit
from pipeline.synthesis import quality
from pipeline.synthesis.judging import BATCH, Judge, Judged


def audit_of(
    judge: Judge, val_pixels: Tensor, decoded: Tensor, groups: Sequence[Judged]
) -> list[Separation | Diversity]:
    """The audit of the decoder, then of each method's accepted images: what tells them from ID, their diversity.

    Args:
        val_pixels, decoded: the ID validation images as they are, and as the decoder shows them; uint8
            (n, channels, size, size).
    """
    rows: list[Separation | Diversity] = [separation(None, "id", val_pixels, decoded)]
    for judged in track(groups, "audit", len(groups)):
        own = judged.pixels[judged.accepted]
        vectors = judge.scaled(judged.raw_latents[judged.accepted])
        rows.append(separation(judged.method, "decoded", decoded, own))
        rows.append(separation(judged.method, "id", val_pixels, own))
        nearest, duplicates = quality.diversity(vectors, own)
        rows.append({"kind": "diversity", "method": judged.method, "nearest": nearest, "duplicates": duplicates})
    return rows


def separation(
    method: str | None, reference: Literal["id", "decoded"], id_pixels: Tensor, pixels: Tensor
) -> Separation:
    """A row of the audit."""
    found = audit.shortcut_auroc(id_pixels, pixels)
    return {"kind": "separation", "method": method, "reference": reference, "auroc": found}


def measure_quality(
    teacher: Classifier, train_set: ImageSet, val_set: ImageSet, groups: Sequence[Judged]
) -> dict[str, dict[str, float]]:
    """How near generated ID images come to ID, with ID training images as the bound; {} where none are generated."""
    sets = {judged.method: (judged.pixels, judged.labels) for judged in groups if bool((judged.labels >= 0).all())}
    if not sets:
        return {}
    sets["id training images"] = (train_set.pixels, train_set.labels)
    held_out = predict(teacher, val_set.pixels, BATCH)[1]
    count = min(len(labels) for _, labels in sets.values())  # the distance depends on the number of images
    report = {}
    for name, (pixels, labels) in sets.items():
        rows = evenly(count, len(labels))
        logits, features = predict(teacher, pixels[rows], BATCH)
        report[name] = {
            "frechet": round(quality.frechet_distance(features, held_out), 4),
            "agreement": round(quality.agreement(logits, labels[rows]), 2),
        }
    return report
