"""WeiPer+KLD: are an image's features, and its logits by perturbed weights, spread as in training (Granz et al. 2024).

The density of an image is a histogram over its features (or perturbed logits); it is compared with the mean density of
training images by the symmetric Kullback-Leibler divergence.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

EPSILONS = (0.01, 0.025)  # added to densities of features, and of perturbed logits, as in the authors' code
AT_ONCE = 2**22  # perturbed logits held in memory


@dataclass(frozen=True)
class Density:
    """The mean histogram of training images, and how an image's is compared with it.

    Attributes:
        low: of the bins, as `high` for all dimensions alike.
        mean: float64 (bins,), not smoothed.
        smoothing: bins that an image's histogram is averaged over.
        epsilon: added to each bin.
    """

    low: float
    high: float
    mean: Tensor
    smoothing: int
    epsilon: float

    @classmethod
    def fit(cls, values: Tensor, bins: int, smoothing: int, epsilon: float) -> "Density":
        """Of values (n, d); the bins reach past their extremes by the n-th part of the range."""
        low, high = float(values.min()), float(values.max())
        gap = (high - low) / len(values) or 1.0
        low, high = low - gap, high + gap
        return cls(low, high, histograms(values, low, high, bins).mean(dim=0), smoothing, epsilon)

    def divergence(self, values: Tensor) -> Tensor:
        """Symmetric divergence in nats, (n,), of the densities of values (n, d)."""
        own = _smoothed(histograms(values, self.low, self.high, len(self.mean)), self.smoothing) + self.epsilon
        p, q = self.mean + self.epsilon, own
        p, q = p / p.sum(), q / q.sum(dim=1, keepdim=True)
        return ((p - q) * (p.log() - q.log())).sum(dim=1)


def histograms(values: Tensor, low: float, high: float, bins: int) -> Tensor:
    """Share of each row's values (n, d) in each bin from low to high: float64 (n, bins); values outside are in none."""
    places = ((values.double() - low) / (high - low) * bins).floor().long()
    inside = ((places >= 0) & (places < bins)).double()
    empty = torch.zeros(len(values), bins, dtype=torch.float64)
    return empty.scatter_add(1, places.clamp(0, bins - 1), inside) / values.shape[1]


def _smoothed(densities: Tensor, width: int) -> Tensor:
    """Means over `width` bins, the outermost repeated past the ends."""
    before = (width - 1) // 2
    padded = functional.pad(densities[:, None], (before, width - 1 - before), mode="replicate")
    return functional.avg_pool1d(padded, width, stride=1).squeeze(1)


class WeiPerKLD:
    """Divergence of the features, plus `lambda_1` times that of perturbed logits, less `lambda_2` times the MSP.

    The MSP is the mean over perturbed layers. Perturbations are drawn from a fixed seed.

    Args:
        weight: of the last layer, (C, d).
        bias: (C,).
        delta: length of a perturbation, over that of the class weight.
        repeats: perturbed layers.
        bins: of the histograms.
        smoothing: bins that a histogram of features is averaged over.
        smoothing_perturbed: likewise, of perturbed logits.
        images: training images that the densities are of, evenly spaced.
    """

    requires_fit = True

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        delta: float = 2.1,
        repeats: int = 100,
        bins: int = 100,
        smoothing: int = 20,
        smoothing_perturbed: int = 20,
        lambda_1: float = 1.0,
        lambda_2: float = 1.0,
        images: int = 1000,
    ):
        noise = torch.randn(repeats, *weight.shape, generator=torch.Generator().manual_seed(0))
        noise = functional.normalize(noise, dim=2) * weight.norm(dim=1)[None, :, None]
        self.weight, self.bias = (weight + delta * noise).flatten(0, 1), bias.repeat(repeats)
        self.classes, self.bins, self.images = len(weight), bins, images
        self.smoothings, self.lambdas = (smoothing, smoothing_perturbed), (lambda_1, lambda_2)

    def fit_features(self, features: Tensor, labels: Tensor) -> None:
        """Densities of training features (n, d); labels are not looked at."""
        some = features[torch.linspace(0, len(features) - 1, min(self.images, len(features))).long()]
        kinds = zip((some, self._perturbed(some)), self.smoothings, EPSILONS, strict=True)
        self.densities = [Density.fit(values, self.bins, width, epsilon) for values, width, epsilon in kinds]

    def predict_features(self, features: Tensor) -> Tensor:
        """Scores (n,) of features (n, d)."""
        return torch.cat([self._scores(part) for part in features.split(max(1, AT_ONCE // len(self.weight)))])

    def _perturbed(self, features: Tensor) -> Tensor:
        return functional.linear(features, self.weight, self.bias)

    def _scores(self, features: Tensor) -> Tensor:
        logits = self._perturbed(features)
        of_features, of_logits = (
            density.divergence(values) for density, values in zip(self.densities, (features, logits), strict=True)
        )
        msp = logits.unflatten(1, (-1, self.classes)).double().softmax(dim=2).amax(dim=2).mean(dim=1)
        return of_features + self.lambdas[0] * of_logits - self.lambdas[1] * msp
