"""OpenMax (Bendale & Boult 2016), without the flaw of pytorch-ood's: there an image's score depends on its batch."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

TRANSLATION = 1e4  # libMR's: distances are that much more than the least of the tail when the distribution is fitted
STEEPEST = 1e15  # shape of a distribution fitted to equal distances


@dataclass(frozen=True)
class Weibull:
    """The distribution of the largest distances of a class to its mean, as libMR fits it: by likelihood, float64.

    Attributes:
        least: the smallest distance that was fitted.
        shape: of the translated distances.
        log_mean: logarithm of the mean of exp(shape * log of the translated distances over the translation).
    """

    least: float
    shape: float
    log_mean: float

    @classmethod
    def fit(cls, tail: Tensor) -> "Weibull":
        """The distribution of distances (k,); steep where all are equal."""
        from scipy.optimize import brentq

        least, logs = float(tail.min()), _logs(tail, float(tail.min()))
        if float(logs.max()) == 0:
            return cls(least, STEEPEST, 0.0)

        def derivative(shape: float) -> float:
            weights = (shape * logs).softmax(dim=0)
            return float((weights * logs).sum() - logs.mean()) - 1 / shape

        low = 1 / float(logs.max())  # there the derivative is not positive: the mean of the logs is not negative
        high = low
        while derivative(high) < 0:
            high *= 2
        shape = high if low == high else brentq(derivative, low, high, rtol=1e-12)
        return cls(least, shape, float((shape * logs).logsumexp(dim=0)) - math.log(len(logs)))

    def log_survival(self, distances: Tensor) -> Tensor:
        """Logarithm of the share of images of the class that would be farther, for distances of any shape."""
        return -(self.shape * _logs(distances, self.least) - self.log_mean).exp()


def _logs(distances: Tensor, least: float) -> Tensor:
    return torch.log1p(((distances - least) / TRANSLATION).clamp_min(-1))


class OpenMax:
    """Logarithm of the probability of a class of its own for what is unknown, made of activation taken from the others.

    The activation of each of the `alpha` likeliest classes loses a share: the probability that images of the class are
    nearer to its mean than this one, times the class's rank weight. Means and distances are of the training images
    that are classified right; a class without any gives its whole weight.

    Args:
        tail: largest distances of a class that its distribution is fitted to.
        alpha: likeliest classes that lose activation, all where there are fewer.
    """

    requires_fit = True

    def __init__(self, tail: int = 20, alpha: int = 3):
        if tail < 1 or alpha < 1:
            raise ValueError("tail and alpha are at least 1")
        self.tail, self.alpha = tail, alpha

    def fit_train_logits(self, logits: Tensor, labels: Tensor) -> None:
        """Fit distances of training logits (n, C) with labels (n,)."""
        logits = logits.double()
        right = logits.argmax(dim=1) == labels
        self.means = logits.new_zeros(logits.shape[1], logits.shape[1])
        self.distributions: dict[int, Weibull] = {}
        for label in labels[right].unique().tolist():
            own = logits[right & (labels == label)]
            self.means[label] = own.mean(dim=0)
            distances = torch.linalg.vector_norm(own - self.means[label], dim=1)
            self.distributions[label] = Weibull.fit(distances.topk(min(self.tail, len(own))).values)

    def predict_logits(self, logits: Tensor) -> Tensor:
        """Scores (n,) of logits (n, C)."""
        logits = logits.double()
        taken = logits * self._outlying(logits) * self._rank_weights(logits)
        unknown = taken.sum(dim=1)
        return unknown - torch.cat([logits - taken, unknown[:, None]], dim=1).logsumexp(dim=1)

    def _outlying(self, logits: Tensor) -> Tensor:
        distances, found = torch.cdist(logits, self.means), torch.ones_like(logits)
        for label, distribution in self.distributions.items():
            found[:, label] = -torch.expm1(distribution.log_survival(distances[:, label]))
        return found

    def _rank_weights(self, logits: Tensor) -> Tensor:
        alpha = min(self.alpha, logits.shape[1])
        weights = torch.arange(alpha, 0, -1).double() / alpha
        return torch.zeros_like(logits).scatter(1, logits.topk(alpha, dim=1).indices, weights.expand(len(logits), -1))
