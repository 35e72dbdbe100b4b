"""Compare candidates with the ID images: gather evidence, accept or reject with a reason."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.artifacts.images import ImageSet
from pipeline.classifier.networks import Classifier, features_of, predict
from pipeline.runtime.errors import UserError
from pipeline.settings.methods import base_of
from pipeline.synthesis import filters
from pipeline.synthesis.neighbours import Neighbours
from pipeline.synthesis.rendering import Images
from pipeline.synthesis.safety import SafetyChecker

BATCH = 500  # images judged at once
THUMBNAIL = 32  # pixels
FLOOR = 0.01  # of the mean deviation: a dimension that ID images hardly use, such as a black corner, has nearly none


def thumbnails(pixels: Tensor, batch: int) -> Tensor:
    """uint8 pixels averaged down to at most 32 x 32, float32 (n, d): enough to tell copies, few enough for millions."""
    side = min(THUMBNAIL, pixels.shape[-1])
    return torch.cat([functional.adaptive_avg_pool2d(part.float(), side).flatten(1) for part in pixels.split(batch)])


class Judge:
    """What candidates are compared with.

    Args:
        teacher: in eval mode.
        train_set: ID training images.
        train_latents: their raw latents (n, C, h, w).
        neighbours: k of the k-NN distances, at most n.
    """

    def __init__(self, teacher: Classifier, train_set: ImageSet, train_latents: Tensor, neighbours: int):
        self.teacher, self.neighbours = teacher, neighbours
        std = train_latents.flatten(1).std(dim=0)
        self.scale = std.clamp_min(FLOOR * std.mean())
        self.id_latents = Neighbours(self.scaled(train_latents))
        self.id_features = Neighbours(features_of(teacher, train_set.pixels))
        self.id_pixels = Neighbours(thumbnails(train_set.pixels, BATCH))

    def scaled(self, raw_latents: Tensor) -> Tensor:
        """Raw latents (n, C, h, w) in standard deviations of each dimension of the training set, (n, d)."""
        return raw_latents.flatten(1) / self.scale

    def evidence(self, pixels: Tensor, raw_latents: Tensor, is_unsafe: SafetyChecker | None = None) -> filters.Evidence:
        """Evidence on n images, uint8 pixels and their raw latents."""
        logits, features = predict(self.teacher, pixels, BATCH)
        flat, small = pixels.flatten(1), thumbnails(pixels, BATCH)
        return filters.Evidence(
            distance=self.id_latents.kth_distance(self.scaled(raw_latents), self.neighbours),
            feature_distance=self.id_features.kth_distance(features, self.neighbours),
            pixel_distance=self.id_pixels.kth_distance(small, 1) / small.shape[1] ** 0.5,
            confidence=logits.double().softmax(dim=1).amax(dim=1),
            contrast=flat.float().std(dim=1),
            saturation=((flat == 0) | (flat == 255)).float().mean(dim=1),
            finite=raw_latents.flatten(1).isfinite().all(dim=1) & logits.isfinite().all(dim=1),
            unsafe=is_unsafe(pixels) if is_unsafe else torch.zeros(len(pixels), dtype=torch.bool),
        )


@dataclass(frozen=True)
class Judged:
    """Candidates of one method, judged.

    Attributes:
        method: METHOD, or METHOD+CORRECTION+...
        strength_means: what the column `strength` means.
        source_type: of the images, in IPTC's vocabulary.
        images: the candidates, rendered.
        evidence: on them.
        labels: int64, (n,); -1 for outliers, the class of a control that is ID.
        reasons: why each is rejected, "" for an accepted one.
        keys: of the ID training images.
        seed: of stage one.
    """

    method: str
    strength_means: str
    source_type: str | None
    images: Images
    evidence: filters.Evidence
    labels: Tensor
    reasons: list[str]
    keys: Sequence[str]
    seed: int

    @property
    def pixels(self) -> Tensor:
        """uint8, (n, channels, size, size)."""
        return self.images.pixels

    @property
    def raw_latents(self) -> Tensor:
        """float32, (n, C, h, w)."""
        return self.images.raw_latents

    @property
    def accepted(self) -> list[int]:
        """Rows of the accepted candidates."""
        return [i for i, reason in enumerate(self.reasons) if not reason]

    def fields(self, i: int) -> dict[str, Any]:
        """Index fields of candidate i."""
        first, second = self.images.parents[i].tolist()
        source = int(self.images.source[i])
        return {
            "method": self.method,
            "label": int(self.labels[i]),
            "parent_a": first,
            "parent_b": second,
            "strength": round(float(self.images.strength[i]), 6),
            "source": self.keys[source] if source >= 0 else "",
            "candidate": i,
            "distance": round(float(self.evidence.distance[i]), 4),
            "confidence": round(float(self.evidence.confidence[i]), 6),
            "seed": self.seed,
        }

    def choose(self, wanted: int) -> list[int]:
        """The first `wanted` accepted candidates.

        Raises:
            UserError: fewer were accepted; names the counts by reason and what to change.
        """
        if len(self.accepted) < wanted:
            counts = ", ".join(f"{reason} {n}" for reason, n in sorted(Counter(filter(None, self.reasons)).items()))
            raise UserError(
                f"{self.method}: {len(self.accepted)} of {len(self.reasons)} candidates accepted "
                f"(rejected: {counts or 'none'}), expected at least shards.per_method = {wanted}; "
                f"raise sample.{base_of(self.method)}.count, lower shards.distance_quantile, raise "
                "shards.confidence_quantile, or move candidates farther out (sigmas, extra_steps, ratio, step)"
            )
        return self.accepted[:wanted]


def check_unlike_id(judged: Judged, chosen: list[int], limits: filters.Thresholds, most: float) -> None:
    """Refuse a set of outliers that the teacher takes for ID images (as went unnoticed in dream-ood issue 25).

    Args:
        most: largest share of them, 0..1, that may leave the teacher as sure as ID validation images do.

    Raises:
        UserError: names the share and what to change.
    """
    share = float((judged.evidence.confidence[chosen] >= limits.confidence).double().mean())
    if share > most:
        raise UserError(
            f"{judged.method}: {share:.0%} of the accepted outliers look in-distribution to the teacher, expected at "
            f"most shards.max_id_like = {most}; add `confident` to shards.filters, or move the candidates farther out"
        )
