"""The controls every outlier method has to beat: images that need no latents, no diffusion model, no method."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from skimage.filters import gaussian
from torch import Tensor

from pipeline.artifacts.candidates import Candidates
from pipeline.artifacts.images import ImageSet
from pipeline.artifacts.latents import Latents
from pipeline.shortcuts.corrections import details
from pipeline.synthesis.randomness import generator, normal
from pipeline.training.batches import shuffled

# what data/controls may hold
NAMES = ("noise", "pixel-mixup", "cut-mix", "soft-cut-mix", "sharpened", "synthetic-id", "decoded-id", "real")
ID_IMAGES = ("synthetic-id", "decoded-id")  # further ID images, of their first parent's class; all others are outliers
WITHOUT_PARENTS = ("noise", "real")
GAUSSIAN_STD = 64.0  # grey levels around the middle grey
SHARE = (0.3, 0.7)  # of the first image in a pixel mixture
AREA = (0.25, 0.75)  # of the image that a cut-mix takes from the second
SOFT = 1 / 16  # of the image's side: standard deviation of the blur of a soft cut-mix's edge


Drawn = tuple[Tensor, Tensor, Tensor]  # pixels uint8 (n, channels, size, size); rows of the ID images that each was
# made of, int64 (n, 2), -1 for none; shares of the first, float32 (n,). Image i depends on (seed, i) alone.
Control = Callable[[range], Drawn]  # images of consecutive indices


def drawn(seed: int, id_set: ImageSet, real: Tensor | None) -> dict[str, Control]:
    """The controls that are drawn as pixels, by name; `real` of the real outliers (n, channels, size, size), if any."""
    found: dict[str, Control] = {
        "noise": partial(noise_images, seed, shape=tuple(id_set.pixels.shape[1:])),
        "pixel-mixup": partial(pixel_mixup, seed, id_set=id_set),
        "cut-mix": partial(cut_mix, seed, id_set=id_set),
        "soft-cut-mix": partial(cut_mix, seed, id_set=id_set, soft=True),
        "sharpened": partial(sharpened, seed, id_set=id_set),
    }
    return found if real is None else found | {"real": partial(real_images, seed, pixels=real)}


def _of_nothing(pixels: Tensor) -> Drawn:
    return pixels, torch.full((len(pixels), 2), -1), torch.zeros(len(pixels))


def noise_images(seed: int, indices: range, shape: tuple[int, ...]) -> Drawn:
    """Noise images of a shape: uniform and Gaussian in turn."""
    images = np.empty((len(indices), *shape), dtype=np.uint8)
    for image, i in zip(images, indices, strict=True):
        random = generator(seed, "noise", i)
        if i % 2:
            image[:] = random.normal(127.5, GAUSSIAN_STD, shape).round().clip(0, 255).astype(np.uint8)
        else:
            image[:] = random.integers(0, 256, shape)
    return _of_nothing(torch.from_numpy(images))


def in_passes(seed: int, indices: range, total: int) -> Tensor:
    """Rows of `total` images in passes over all of them, int64: any first part of them is a fair part."""
    return next(shuffled(total, indices.stop, seed))[indices.start :]


def real_images(seed: int, indices: range, pixels: Tensor) -> Drawn:
    """Some of the real outliers (n, channels, size, size), in passes over all of them."""
    return _of_nothing(pixels[in_passes(seed, indices, len(pixels))])


def _two_images(random: np.random.Generator, labels: np.ndarray) -> tuple[int, int]:
    """Rows of two images of different classes."""
    first = int(random.integers(len(labels)))
    return first, int(random.choice(np.flatnonzero(labels != labels[first])))


def pixel_mixup(seed: int, indices: range, id_set: ImageSet) -> Drawn:
    """Two ID images of different classes, one over the other (mixup, Zhang et al. 2018, as outliers)."""
    labels, pixels = id_set.labels.numpy(), id_set.pixels.numpy()
    images, rows, shares = [], [], []
    for i in indices:
        random = generator(seed, "pixel-mixup", i)
        first, second = _two_images(random, labels)
        share = random.uniform(*SHARE)
        mixed = share * pixels[first] + (1 - share) * pixels[second]
        images.append(mixed.round().astype(np.uint8))
        rows.append((first, second))
        shares.append(share)
    return torch.from_numpy(np.stack(images)), torch.tensor(rows), torch.tensor(shares, dtype=torch.float32)


def cut_mix(seed: int, indices: range, id_set: ImageSet, soft: bool = False) -> Drawn:
    """A square of one ID image in another of a different class (CutMix, Yun et al. 2019, as outliers).

    Args:
        soft: blur the square's edge and nothing else: the same content without a new edge. What `cut-mix` gains and
            this does not, is gained by the edge.
    """
    labels, pixels = id_set.labels.numpy(), id_set.pixels.numpy()
    size = pixels.shape[-1]
    images, rows, shares = [], [], []
    for i in indices:
        random = generator(seed, "cut-mix", i)
        first, second = _two_images(random, labels)
        side = max(1, round(size * random.uniform(*AREA) ** 0.5))
        top, left = random.integers(0, size - side + 1, size=2)
        square = np.zeros((size, size))
        square[top : top + side, left : left + side] = 1
        if soft:
            square = gaussian(square, SOFT * size, mode="nearest")
        mixed = (1 - square) * pixels[first] + square * pixels[second]
        images.append(mixed.round().astype(np.uint8))
        rows.append((first, second))
        shares.append(1 - square.mean())
    return torch.from_numpy(np.stack(images)), torch.tensor(rows), torch.tensor(shares, dtype=torch.float32)


def sharpened(seed: int, indices: range, id_set: ImageSet) -> Drawn:
    """ID images with their details doubled: nothing unknown but sharpness. What helps as much, helps by sharpness."""
    rows = in_passes(seed, indices, len(id_set))
    images = id_set.pixels[rows].float()
    pixels = (images + details(images)).round().clamp(0, 255).to(torch.uint8)
    return pixels, rows[:, None].repeat(1, 2), torch.ones(len(rows))


def redraw(seed: int, indices: range, encoded: Latents) -> Candidates:
    """ID training images as the decoder shows them: draws from their posteriors, in passes over all images.

    With these as further ID images in training, "decoded" is no longer a sign of "unknown".
    """
    rows = in_passes(seed, indices, len(encoded.keys))
    noise = normal(seed, "decoded-id", indices, tuple(encoded.mean.shape[1:]))
    parents = encoded.labels[rows][:, None].repeat(1, 2)
    return Candidates(encoded.mean[rows] + encoded.std[rows] * noise, parents, torch.ones(len(rows)), rows)
