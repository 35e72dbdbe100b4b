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
        feature_distance: the same in the teacher's feature space, (n,).
        pixel_distance: of its thumbnail to the nearest of an ID training image, root mean square in grey levels 0..255,
            (n,).
        confidence: the teacher's largest softmax probability, (n,), 0..1.
        contrast: standard deviation of the pixels, (n,), in grey levels.
        saturation: share of the pixels that are black or white, (n,), 0..1.
        finite: whether latent and logits are finite, (n,) bool.
        unsafe: whether the generator's own checker would hide it, (n,) bool; false where it has none.
    """

    distance: Tensor
    feature_distance: Tensor
    pixel_distance: Tensor
    confidence: Tensor
    contrast: Tensor
    saturation: Tensor
    finite: Tensor
    unsafe: Tensor


@dataclass(frozen=True)
class Thresholds:
    """Limits of the filters, in the units of `Evidence`."""

    distance: float
    feature_distance: float
    pixel_distance: float
    confidence: float
    contrast: float
    saturation: float


def thresholds(validation: Evidence, distance_quantile: float, confidence_quantile: float) -> Thresholds:
    """Limits from ID validation images; flat, saturated and duplicate are beyond the extremes of all of them.

    Args:
        distance_quantile: of their distances, 0..1, that an outlier must exceed.
        confidence_quantile: of the teacher's confidences, 0..1, that an outlier must stay below.
    """
    return Thresholds(
        distance=float(validation.distance.quantile(distance_quantile)),
        feature_distance=float(validation.feature_distance.quantile(distance_quantile)),
        pixel_distance=float(validation.pixel_distance.min()),
        confidence=float(validation.confidence.quantile(confidence_quantile)),
        contrast=float(validation.contrast.min()) / 4,
        saturation=(1 + float(validation.saturation.max())) / 2,
    )


Filter = Callable[[Evidence, Thresholds], Tensor]
FILTERS: dict[str, Filter] = {
    "non-finite": lambda found, limit: ~found.finite,
    "unsafe": lambda found, limit: found.unsafe,
    "flat": lambda found, limit: found.contrast < limit.contrast,
    "saturated": lambda found, limit: found.saturation > limit.saturation,
    "duplicate": lambda found, limit: found.pixel_distance < limit.pixel_distance,
    "inside-id": lambda found, limit: found.distance <= limit.distance,
    "inside-id-features": lambda found, limit: found.feature_distance <= limit.feature_distance,
    "confident": lambda found, limit: found.confidence >= limit.confidence,
}


def reasons(found: Evidence, limits: Thresholds, filters: list[str]) -> list[str]:
    """For each image the first of `filters` that rejects it, or "" where none does."""
    verdicts = [""] * len(found.distance)
    for name in filters:
        for i in torch.nonzero(FILTERS[name](found, limits)).flatten().tolist():
            verdicts[i] = verdicts[i] or name
    return verdicts
