"""The controls every outlier method has to beat: images that need no latents, no diffusion model, no method."""

import numpy as np
import torch
from torch import Tensor

from pipeline.artifacts.images import ImageSet
from pipeline.learning.batches import shuffled
from pipeline.synthesis.randomness import generator

NAMES = ("noise", "pixel-mixup", "cut-mix", "synthetic-id", "decoded-id", "real")  # what data/controls may hold
GAUSSIAN_STD = 64.0  # grey levels around the middle grey
SHARE = (0.3, 0.7)  # of the first image in a pixel mixture
AREA = (0.25, 0.75)  # of the image that a cut-mix takes from the second


def noise_images(seed: int, count: int, shape: tuple[int, ...]) -> Tensor:
    """Noise images, uint8 (count, channels, size, size): uniform and Gaussian in turn.

    Image i depends on (seed, i) alone.
    """
    images = np.empty((count, *shape), dtype=np.uint8)
    for i in range(count):
        random = generator(seed, "noise", i)
        if i % 2:
            values = random.normal(127.5, GAUSSIAN_STD, shape).round().clip(0, 255)
        else:
            values = random.integers(0, 256, shape)
        images[i] = values.astype(np.uint8)
    return torch.from_numpy(images)


def real_images(seed: int, count: int, pixels: Tensor) -> Tensor:
    """`count` of some real outliers (n, channels, size, size), in passes over all of them."""
    return pixels[next(shuffled(len(pixels), count, seed))]


def _two_images(random: np.random.Generator, labels: np.ndarray) -> tuple[int, int]:
    """Rows of two images of different classes."""
    first = int(random.integers(len(labels)))
    return first, int(random.choice(np.flatnonzero(labels != labels[first])))


def pixel_mixup(seed: int, count: int, id_set: ImageSet) -> tuple[Tensor, Tensor, Tensor]:
    """Two ID images of different classes, one over the other (mixup, Zhang et al. 2018, as outliers).

    Image i depends on (seed, i) alone.

    Returns:
        pixels uint8 (n, channels, size, size), rows of the two images int64 (n, 2), shares of the first (n,).
    """
    labels, pixels = id_set.labels.numpy(), id_set.pixels.numpy()
    images, rows, shares = [], [], []
    for i in range(count):
        random = generator(seed, "pixel-mixup", i)
        first, second = _two_images(random, labels)
        share = random.uniform(*SHARE)
        mixed = share * pixels[first] + (1 - share) * pixels[second]
        images.append(mixed.round().astype(np.uint8))
        rows.append((first, second))
        shares.append(share)
    return torch.from_numpy(np.stack(images)), torch.tensor(rows), torch.tensor(shares, dtype=torch.float32)


def cut_mix(seed: int, count: int, id_set: ImageSet) -> tuple[Tensor, Tensor, Tensor]:
    """A rectangle of one ID image in another of a different class (CutMix, Yun et al. 2019, as outliers).

    Arguments, determinism and result as those of `pixel_mixup`.
    """
    labels, pixels = id_set.labels.numpy(), id_set.pixels.numpy()
    size = pixels.shape[-1]
    images, rows, shares = [], [], []
    for i in range(count):
        random = generator(seed, "cut-mix", i)
        first, second = _two_images(random, labels)
        side = max(1, round(size * random.uniform(*AREA) ** 0.5))
        top, left = random.integers(0, size - side + 1, size=2)
        image = pixels[first].copy()
        image[:, top : top + side, left : left + side] = pixels[second][:, top : top + side, left : left + side]
        images.append(image)
        rows.append((first, second))
        shares.append(1 - side**2 / size**2)
    return torch.from_numpy(np.stack(images)), torch.tensor(rows), torch.tensor(shares, dtype=torch.float32)
