"""Candidates as images: what was drawn as latents is decoded and corrected, what was drawn as images encoded."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.artifacts.candidates import Candidates
from pipeline.artifacts.images import ImageSet
from pipeline.runtime.errors import UserError
from pipeline.settings.encode import InferenceSettings
from pipeline.shortcuts import corrections
from pipeline.synthesis import autoencoder as space
from pipeline.synthesis.randomness import generator


@dataclass(frozen=True)
class Images:
    """n rendered candidates.

    Attributes:
        pixels: uint8, (n, channels, size, size).
        raw_latents: float32, (n, C, h, w).
        parents: int64, (n, 2).
        strength: float32, (n,).
        source: int64, (n,).
    """

    pixels: Tensor
    raw_latents: Tensor
    parents: Tensor
    strength: Tensor
    source: Tensor


class Renderer:
    """From candidates to images.

    Args:
        autoencoder: in eval mode.
        running: how it is run.
        size: pixels that it sees.
        train_set: ID training images, which corrections imitate.
        train_latents: their raw latents (n, C, h, w).
        seed: of stage one.
    """

    def __init__(
        self, autoencoder: space.Autoencoder, running: InferenceSettings, size: int, train_set: ImageSet,
        train_latents: Tensor, seed: int,
    ):  # fmt: skip
        self.autoencoder, self.running, self.size, self.seed = autoencoder, running, size, seed
        self.train_set, self.train_latents = train_set, train_latents
        self.members = [torch.nonzero(train_set.labels == i).flatten() for i in range(len(train_set.classes))]

    def decode(self, raw_latents: Tensor) -> Tensor:
        """Raw latents to uint8 pixels of the ID images' size."""
        return space.decode(self.autoencoder, raw_latents, self.train_set.pixels.shape[-1], self.running)

    def render(self, part: Candidates, indices: range, names: Sequence[str], method: str) -> Images:
        """Candidates `indices` of a method as images, put through the corrections in `names`.

        Raises:
            UserError: latents of another shape than the ID images'.
        """
        pixels = self._decode(part, method) if part.kind == "latent" else part.values
        if names:
            pixels = corrections.apply(names, pixels, self._reference(part, indices, names, method))
        if part.kind == "latent":
            raw_latents = part.values
        else:
            raw_latents = space.encode(self.autoencoder, pixels, self.size, self.running)[0]
        return Images(pixels, raw_latents, part.parents, part.strength, part.source)

    def _decode(self, found: Candidates, method: str) -> Tensor:
        own, expected = found.values.shape[1:], self.train_latents.shape[1:]
        if own != expected:
            raise UserError(
                f"{method}: latents of shape {tuple(own)}, expected {tuple(expected)} as the ID images'; use a "
                "generator of the autoencoder's space and size, and run the stage again"
            )
        return self.decode(found.values)

    def _reference(self, found: Candidates, indices: range, names: Sequence[str], method: str) -> corrections.Reference:
        """For each candidate the ID image it started from; where there is none, one of its first parent's class."""
        rows = found.source.clone()
        for position in torch.nonzero(rows < 0).flatten().tolist():
            parent = int(found.parents[position, 0])
            own = self.members[parent] if parent >= 0 else torch.arange(len(self.train_set))
            rows[position] = own[generator(self.seed, f"model-{method}", indices[position]).integers(len(own))]
        pixels = self.train_set.pixels[rows]
        # the decoder runs again for the residual alone
        lost = pixels.float() - self.decode(self.train_latents[rows]) if "residual" in names else torch.zeros(0)
        return corrections.Reference(pixels, lost)
