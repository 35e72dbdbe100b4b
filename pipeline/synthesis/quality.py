"""How good generated images are: close to ID, of the class they were asked for, unlike each other."""

import numpy as np
import torch
from torch import Tensor

from pipeline.synthesis.neighbours import kth_distance


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Squared Fréchet distance between Gaussians fitted to two sets of features (FID, Heusel et al. 2017).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), here in the teacher's feature space: comparable on the same
    teacher and number of images alone.

    Args:
        first, second: (n, d) and (m, d), at least 2 each.
    """
    means = [features.double().mean(dim=0).numpy() for features in (first, second)]
    covariances = [np.atleast_2d(np.cov(features.double().numpy(), rowvar=False)) for features in (first, second)]
    # the trace of the root is the sum of the roots of the eigenvalues, which are real but for rounding
    eigenvalues = np.linalg.eigvals(covariances[0] @ covariances[1]).real.clip(min=0)
    spread = np.trace(covariances[0] + covariances[1]) - 2 * np.sqrt(eigenvalues).sum()
    squared = float(np.square(means[0] - means[1]).sum() + spread)
    return max(0.0, squared)


def agreement(logits: Tensor, labels: Tensor) -> float:
    """Percent of images that a classifier puts in the class they were asked for; logits (n, C), labels (n,)."""
    return 100 * float((logits.argmax(dim=1) == labels).double().mean())


def by_class(pixels: Tensor, labels: Tensor, classes: int) -> list[Tensor]:
    """The pixels of each class, in order: the rows of a class grid."""
    return [pixels[torch.nonzero(labels == label).flatten()] for label in range(classes)]


def diversity(latents: Tensor, pixels: Tensor) -> tuple[float, int]:
    """How much outliers repeat each other: the median distance of one to its nearest other, and the duplicates.

    A duplicate has exactly the pixels of an earlier image: of three equal images two are duplicates.

    Args:
        latents: (n, d), in standard deviations of each dimension.
        pixels: uint8, (n, channels, size, size).
    """
    nearest = kth_distance(latents, latents, 2).median()  # the image itself is the first
    return round(float(nearest), 4), len(pixels) - len(torch.unique(pixels.flatten(1), dim=0))
