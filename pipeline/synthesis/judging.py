"""Hold candidates against the ID images: decode them, gather evidence, accept or reject with a reason."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.artifacts.candidates import Candidates
from pipeline.artifacts.images import ImageSet
from pipeline.classifier.networks import Classifier, features_of, predict
from pipeline.runtime.errors import UserError
from pipeline.shortcuts import corrections
from pipeline.synthesis import autoencoder as space
from pipeline.synthesis import filters
from pipeline.synthesis.neighbours import Neighbours
from pipeline.synthesis.randomness import generator

BATCH = 500  # images judged at once
THUMBNAIL = 32  # pixels
FLOOR = 0.01  # of the mean deviation: a dimension that ID images hardly use, such as a black corner, has nearly none


def thumbnails(pixels: Tensor, batch: int) -> Tensor:
    """uint8 pixels averaged down to at most 32 x 32, float32 (n, d): enough to tell copies, few enough for millions."""
    side = min(THUMBNAIL, pixels.shape[-1])
    return torch.cat([functional.adaptive_avg_pool2d(part.float(), side).flatten(1) for part in pixels.split(batch)])


class Judge:
    """What candidates are held against.

    Args:
        autoencoder, teacher: in eval mode, on one device.
        train_set: ID training images.
        train_latents: their raw latents (n, C, h, w).
        neighbours: k of the k-NN distances, at most n.
        running: how the autoencoder is run.
    """

    def __init__(
        self,
        autoencoder: space.Autoencoder,
        teacher: Classifier,
        train_set: ImageSet,
        train_latents: Tensor,
        neighbours: int,
        running: space.Running,
    ):
        self.autoencoder, self.teacher, self.neighbours, self.running = autoencoder, teacher, neighbours, running
        self.train_set, self.train_latents = train_set, train_latents
        std = train_latents.flatten(1).std(dim=0)
        self.scale = std.clamp_min(FLOOR * std.mean())
        self.known_latents = Neighbours(self.scaled(train_latents))
        self.known_features = Neighbours(features_of(teacher, train_set.pixels))
        self.known_pixels = Neighbours(thumbnails(train_set.pixels, BATCH))
        self.size = train_set.pixels.shape[-1]
        self.members = [torch.nonzero(train_set.labels == i).flatten() for i in range(len(train_set.classes))]

    def scaled(self, raw_latents: Tensor) -> Tensor:
        """Raw latents (n, C, h, w) in standard deviations of each dimension of the training set, (n, d)."""
        return raw_latents.flatten(1) / self.scale

    def decode(self, raw_latents: Tensor) -> Tensor:
        """Raw latents to uint8 pixels of the ID images' size."""
        return space.decode(self.autoencoder, raw_latents, self.size, self.running)

    def encode(self, pixels: Tensor, size: int) -> Tensor:
        """uint8 pixels to raw latents by way of `size` pixels, the autoencoder's."""
        return space.encode(self.autoencoder, pixels, size, self.running)[0]

    def render(self, found: Candidates, indices: range, names: Sequence[str], seed: int, method: str) -> Tensor:
        """uint8 pixels of candidates `indices` of a method: decoded, and put through the cures in `names`."""
        pixels = self.decode(found.raw_latents)
        return corrections.apply(names, pixels, self._model(found, indices, names, seed, method)) if names else pixels

    def _model(
        self, found: Candidates, indices: range, names: Sequence[str], seed: int, method: str
    ) -> corrections.Model:
        """For each candidate the ID image it started from; where there is none, one of its first parent's class."""
        rows = found.source.clone()
        for position in torch.nonzero(rows < 0).flatten().tolist():
            own = self.members[int(found.parents[position, 0])]
            rows[position] = own[generator(seed, f"model-{method}", indices[position]).integers(len(own))]
        pixels = self.train_set.pixels[rows]
        # the decoder runs again for the residual alone
        lost = pixels.float() - self.decode(self.train_latents[rows]) if "residual" in names else torch.zeros(0)
        return corrections.Model(pixels, lost)

    def evidence(self, pixels: Tensor, raw_latents: Tensor) -> filters.Evidence:
        """Evidence on n images, uint8 pixels and their raw latents."""
        logits, features = predict(self.teacher, pixels, BATCH)
        flat, small = pixels.flatten(1), thumbnails(pixels, BATCH)
        return filters.Evidence(
            distance=self.known_latents.kth_distance(self.scaled(raw_latents), self.neighbours),
            feature_distance=self.known_features.kth_distance(features, self.neighbours),
            pixel_distance=self.known_pixels.kth_distance(small, 1) / small.shape[1] ** 0.5,
            confidence=logits.double().softmax(dim=1).amax(dim=1),
            contrast=flat.float().std(dim=1),
            saturation=((flat == 0) | (flat == 255)).float().mean(dim=1),
            finite=raw_latents.flatten(1).isfinite().all(dim=1) & logits.isfinite().all(dim=1),
        )


@dataclass(frozen=True)
class Judged:
    """Candidates of one method, judged.

    Attributes:
        pixels: uint8, (n, channels, size, size).
        labels: int64, (n,); -1 for outliers, the class of a control that is ID.
        reasons: why each is rejected, "" for an accepted one.
    """

    method: str
    found: Candidates
    pixels: Tensor
    evidence: filters.Evidence
    labels: Tensor
    reasons: list[str]

    @property
    def accepted(self) -> list[int]:
        """Rows of the accepted candidates."""
        return [i for i, reason in enumerate(self.reasons) if not reason]

    def fields(self, i: int, seed: int, keys: Sequence[str]) -> dict[str, Any]:
        """Index fields of candidate i; `keys` are those of the ID training images."""
        first, second = self.found.parents[i].tolist()
        source = int(self.found.source[i])
        return {
            "method": self.method,
            "label": int(self.labels[i]),
            "parent_a": first,
            "parent_b": second,
            "strength": round(float(self.found.strength[i]), 6),
            "source": keys[source] if source >= 0 else "",
            "candidate": i,
            "distance": round(float(self.evidence.distance[i]), 4),
            "confidence": round(float(self.evidence.confidence[i]), 6),
            "seed": seed,
        }

    def choose(self, wanted: int) -> list[int]:
        """The first `wanted` accepted candidates.

        Raises:
            UserError: fewer were accepted; names the counts by reason and what to change.
        """
        if len(self.accepted) < wanted:
            counts = ", ".join(f"{reason} {n}" for reason, n in sorted(Counter(filter(None, self.reasons)).items()))
            raise UserError(
                f"{self.method}: {len(self.accepted)} of {len(self.found)} candidates accepted "
                f"(rejected: {counts or 'none'}), expected at least shards.per_method = {wanted}; "
                f"raise {self.method.split('+')[0]}.count, shards.inside_id or shards.confident, or move candidates "
                "farther out (boundary.sigmas, crossing.beyond, embedding.sigmas, mixup.ratio)"
            )
        return self.accepted[:wanted]


def check_fits(found: Candidates, judge: Judge, method: str) -> None:
    """Refuse candidates of another latent space than the ID images'.

    Raises:
        UserError: names the method and both shapes.
    """
    own, expected = found.raw_latents.shape[1:], judge.train_latents.shape[1:]
    if own != expected:
        raise UserError(
            f"{method}: latents of shape {tuple(own)}, expected {tuple(expected)} as the ID images'; use a generator "
            "of the autoencoder's space and size, and run the stage again"
        )


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
