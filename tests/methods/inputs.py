"""Small inputs of every kind for methods: random ID images of three classes, and untrained models."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from pipeline.artifacts.candidates import Candidates
from pipeline.artifacts.images import ImageSet
from pipeline.artifacts.latents import Latents
from pipeline.classifier.networks import Classifier
from pipeline.methods import Draw
from pipeline.settings.encode import InferenceSettings
from pipeline.synthesis import autoencoder as space
from pipeline.synthesis.unet import ConditionalUNet

CLASSES = ["a", "b", "c"]
RUNNING = InferenceSettings(batch=4, precision="float32")


def id_images(count: int = 30, size: int = 16, channels: int = 3) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8, generator=generator)
    return ImageSet(pixels, torch.arange(count) % 3, [str(i) for i in range(count)], CLASSES, "id")


@dataclass
class SmallInputs:
    """As `pipeline.methods.Inputs`."""

    seed: int = 7
    size: int = 16
    images: ImageSet = field(default_factory=id_images)

    @cached_property
    def latents(self) -> Latents:
        mean, std = torch.randn(2, len(self.images), 4, 8, 8, generator=torch.Generator().manual_seed(1))
        return Latents(self.images.keys, self.images.labels, mean, std.abs())

    @cached_property
    def autoencoder(self) -> space.Autoencoder:
        torch.manual_seed(0)
        return space.small(3, self.size, [8, 16], 4).eval().requires_grad_(False)

    @cached_property
    def teacher(self) -> Classifier:
        torch.manual_seed(0)
        form = (self.images.pixels.shape[-1], 3, [0.5, 0.4, 0.6], [0.3, 0.2, 0.25])
        return Classifier("wrn-10-1", {"kind": "linear"}, CLASSES, *form).eval().requires_grad_(False)

    @cached_property
    def diffusion(self) -> ConditionalUNet:
        torch.manual_seed(0)
        width = self.teacher.head.weight.shape[1]
        return (
            ConditionalUNet(classes=3, features=width, channels=4, size=8, widths=[8, 16]).eval().requires_grad_(False)
        )

    @cached_property
    def oracle(self) -> Tensor:
        return id_images(5).pixels

    @cached_property
    def unknown(self) -> Tensor:
        return id_images(4).pixels

    def decode_images(self, raw_latents: Tensor) -> Tensor:
        return space.decode_images(self.autoencoder, raw_latents, self.images.pixels.shape[-1], RUNNING)


def check_any_part_is_that_of_the_whole(draw: Draw, count: int, tolerance: float = 0.0) -> Candidates:
    """Candidate i depends on the seed and i alone, whatever is drawn with it; returns all of them."""
    whole = draw(range(count))
    assert len(whole) == count
    for rows in (range(count // 3), range(count // 3, count), range(count - 1, count)):
        part = draw(rows)
        assert part.kind == whole.kind
        for name, column in part.columns().items():
            expected = whole.columns()[name][rows.start : rows.stop]
            torch.testing.assert_close(column, expected, atol=tolerance, rtol=tolerance)
    return whole
