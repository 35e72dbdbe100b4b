"""Which candidates are no outliers, and why. Every threshold is a quantile over ID validation images."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Evidence:
    """What is known of n images.

    Attributes:
        distance: to the k-th nearest ID training latent, (n,); in standard deviations of the latents.
        confidence: the teacher's largest softmax probability, (n,), 0..1.
        contrast: standard deviation of the pixels, (n,), in grey levels 0..255.
        saturation: share of the pixels that are black or white, (n,), 0..1.
        finite: whether latent and logits are finite, (n,) bool.
    """

    distance: Tensor
    confidence: Tensor
    contrast: Tensor
    saturation: Tensor
    finite: Tensor


@dataclass(frozen=True)
class Thresholds:
    """Limits of the filters, in the units of `Evidence`."""

    distance: float
    confidence: float
    contrast: float
    saturation: float


def look(pixels: Tensor, raw_latents: Tensor, logits: Tensor, distance: Tensor) -> Evidence:
    """Gather the evidence on n images.

    Args:
        pixels: uint8, (n, channels, size, size).
        raw_latents: float32, (n, C, h, w).
        logits: the teacher's, (n, classes).
        distance: see `Evidence`.
    """
    flat = pixels.flatten(1)
    return Evidence(
        distance=distance,
        confidence=logits.double().softmax(dim=1).amax(dim=1),
        contrast=flat.float().std(dim=1),
        saturation=((flat == 0) | (flat == 255)).float().mean(dim=1),
        finite=raw_latents.flatten(1).isfinite().all(dim=1) & logits.isfinite().all(dim=1),
    )


def thresholds(validation: Evidence, inside_id: float, confident: float) -> Thresholds:
    """Limits from ID validation images; flat and saturated is what lies well beyond every one of them.

    Args:
        inside_id: share of them, 0..1, that lies as far out as an outlier must.
        confident: share of them, 0..1, that leaves the teacher as unsure as an outlier must.
    """
    return Thresholds(
        distance=float(validation.distance.quantile(1 - inside_id)),
        confidence=float(validation.confidence.quantile(confident)),
        contrast=float(validation.contrast.min()) / 4,
        saturation=(1 + float(validation.saturation.max())) / 2,
    )


Filter = Callable[[Evidence, Thresholds], Tensor]
FILTERS: dict[str, Filter] = {
    "non-finite": lambda found, limit: ~found.finite,
    "flat": lambda found, limit: found.contrast < limit.contrast,
    "saturated": lambda found, limit: found.saturation > limit.saturation,
    "inside-id": lambda found, limit: found.distance <= limit.distance,
    "confident": lambda found, limit: found.confidence >= limit.confidence,
}


def reasons(found: Evidence, limits: Thresholds, filters: list[str]) -> list[str]:
    """For each image the first of `filters` that rejects it, or "" where none does."""
    verdicts = [""] * len(found.distance)
    for name in filters:
        for i in torch.nonzero(FILTERS[name](found, limits)).flatten().tolist():
            verdicts[i] = verdicts[i] or name
    return verdicts
