"""What befalls the images of a batch in training: it depends on the seed and the number of the step alone."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.settings.training import TrainingSettings
from pipeline.training.batches import as_images, flip, shift

Augment = Callable[[Tensor, int, int], Tensor]  # of what a data set holds, a seed and a step; gives a network's inputs
SMALLEST_CROP = 0.35  # share of a photograph's area that a crop has at least


def _seed_of(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])


@dataclass(frozen=True)
class Shift:
    """Random shift by up to `shift` pixels, and a mirror image with probability one half."""

    shift: int
    flip: bool

    def __call__(self, pixels: Tensor, seed: int, step: int) -> Tensor:
        """uint8 pixels (n, channels, h, w) to float images in 0..1."""
        generator = torch.Generator().manual_seed(_seed_of(seed, step))
        images = shift(as_images(pixels), self.shift, generator)
        return flip(images, generator) if self.flip else images


class Photos:
    """Random resized crops, mirror images, and RandAugment's changes of colour and shape (Cubuk et al. 2020)."""

    def __init__(self, size: int):
        from torchvision.transforms import v2  # a second that other trainings need not pay

        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(size, scale=(SMALLEST_CROP, 1.0), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandAugment(num_ops=2, magnitude=6),
            ]
        )

    def __call__(self, pixels: Tensor, seed: int, step: int) -> Tensor:
        """uint8 pixels (n, channels, size, size) to float images in 0..1, each changed by itself."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_seed_of(seed, step))
            return as_images(torch.stack([self.transform(image) for image in pixels.cpu()])).to(pixels.device)


def none(features: Tensor, seed: int, step: int) -> Tensor:
    """Features, as they are."""
    return features


def augmentation(settings: TrainingSettings, size: int) -> Augment:
    """As the settings have it, for images of a size in pixels."""
    return Photos(size) if settings.augmentation == "photos" else Shift(settings.shift, settings.flip)
