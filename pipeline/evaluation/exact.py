"""Detectors whose formulas pytorch-ood 0.4 misses on some inputs, exactly. A score is larger for OOD.

Its GEN clamps probabilities at 1e-7, its temperature is not the minimiser of the loss, and its Mahalanobis distance
adds a ridge to a covariance that is not divided, so that units that are silent on the training images decide. Its
KL matching is infinite where a softmax saturates, its ViM works in single precision, too little for features that are
small beside the biases. Its k-NN distance is right, but keeps a search of scikit-learn's, which no exported graph can
hold.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

AT_ONCE = 2**25  # distances that are held at once
COLDEST, HOTTEST = 1e-2, 1e2  # temperatures that are searched, in standard deviations of the logits


def log_probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the softmax p and of 1 - p (-inf for one class), float64 (n, C) each, largest p first."""
    logits = logits.double().sort(dim=1, descending=True).values
    others = logits[:, 1:].logsumexp(dim=1, keepdim=True)
    total = logits.logsumexp(dim=1, keepdim=True)
    log_p = logits - total
    return log_p, torch.cat([others - total, torch.log1p(-log_p[:, 1:].exp())], dim=1)


class Gen:
    """Generalised entropy (Liu et al. 2023): the sum over the `M` likeliest classes of (p (1 - p)) ** gamma.

    In log space: 1 - p of a saturated softmax is far below the rounding of p.

    Args:
        gamma: exponent.
        M: classes that count; None for all.
    """

    def __init__(self, gamma: float = 0.1, M: int | None = None):
        self.gamma, self.largest = gamma, M

    def predict_logits(self, logits: Tensor) -> Tensor:
        """Scores (n,) of logits (n, C)."""
        log_p, log_rest = log_probabilities(logits)
        return (self.gamma * (log_p + log_rest)[:, : self.largest]).exp().sum(dim=1)


class Temperature:
    """Logarithm of 1 - the largest softmax probability at the temperature that fits validation labels best.

    Guo et al. 2017. The probability itself would be 1 for every image where all labels are right and the best
    temperature is the coldest.
    """

    requires_fit = True

    def __init__(self) -> None:
        self.temperature = 1.0

    def fit_logits(self, logits: Tensor, labels: Tensor) -> None:
        """Minimise the cross-entropy of ID logits (n, C) over the logarithm of the temperature.

        It is convex in the inverse temperature, so it has one minimum in the logarithm too.
        """
        from scipy.optimize import minimize_scalar

        def loss(log_temperature: float) -> float:
            return float(functional.cross_entropy(logits.double() / math.exp(log_temperature), labels))

        scale = float(logits.double().std(dim=1, correction=0).mean()) or 1.0
        bounds = (math.log(COLDEST * scale), math.log(HOTTEST * scale))
        self.temperature = math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)

    def predict_logits(self, logits: Tensor) -> Tensor:
        """Scores (n,) of logits (n, C)."""
        return log_probabilities(logits.double() / self.temperature)[1][:, 0]


class KLMatching:
    """Least Kullback-Leibler divergence to the mean posterior of a predicted class (Hendrycks et al. 2022, section 3).

    In log space: a posterior that is 0 by rounding has a logarithm all the same. Fitted on validation outputs, as in
    the paper.
    """

    requires_fit = True

    def fit_logits(self, logits: Tensor, labels: Tensor) -> None:
        """Mean posteriors of the classes that logits (n, C) predict; the labels are not looked at."""
        log_p, predicted = logits.double().log_softmax(dim=1), logits.argmax(dim=1)
        members = [log_p[predicted == label] for label in predicted.unique()]
        self.log_means = torch.stack([own.logsumexp(dim=0) - math.log(len(own)) for own in members])

    def predict_logits(self, logits: Tensor) -> Tensor:
        """Scores (n,) of logits (n, C)."""
        log_p = logits.double().log_softmax(dim=1)
        p = log_p.exp()
        return (p * log_p).sum(dim=1) - (p @ self.log_means.T).amax(dim=1)


class Mahalanobis:
    """Least squared Mahalanobis distance to a class mean, with the covariance within classes (Lee et al. 2018).

    The precision is a pseudo-inverse, as scikit-learn's and so OpenOOD's: a unit that never varies counts for nothing.

    Args:
        relative: less the distance to the mean of all, with the covariance of all (Ren et al. 2021).
        normalised: of features of length 1 (Mahalanobis++, Müller & Hein 2025).
        shrinkage: share of a covariance that is replaced by a multiple of the identity of the same trace, 0..1. Both
            covariances take the same share: one that is estimated for each would make their difference meaningless.
    """

    requires_fit = True

    def __init__(self, relative: bool = False, normalised: bool = False, shrinkage: float = 0.0):
        if not 0 <= shrinkage <= 1:
            raise ValueError(f"shrinkage is {shrinkage}, expected 0 to 1")
        self.relative, self.normalised, self.shrinkage = relative, normalised, shrinkage

    def _prepared(self, features: Tensor) -> Tensor:
        features = features.double()
        return functional.normalize(features) if self.normalised else features

    def fit_features(self, features: Tensor, labels: Tensor) -> None:
        """Estimate means and covariances from ID features (n, d) and their labels (n,)."""
        features = self._prepared(features)
        found, places = labels.unique(return_inverse=True)
        means = torch.stack([features[labels == label].mean(dim=0) for label in found])
        self.mean = features.mean(dim=0)
        self.whitening = _whitening(features - means[places], self.shrinkage)
        self.whitened_means = (means - self.mean) @ self.whitening
        if self.relative:
            self.whitening_of_all = _whitening(features - self.mean, self.shrinkage)

    def predict_features(self, features: Tensor) -> Tensor:
        """Scores (n,) of features (n, d)."""
        centred = self._prepared(features) - self.mean
        nearest = _squared_distances(centred @ self.whitening, self.whitened_means).amin(dim=1)
        return nearest - (centred @ self.whitening_of_all).square().sum(dim=1) if self.relative else nearest


def _whitening(centred: Tensor, shrinkage: float) -> Tensor:
    """A root W of the pseudo-inverse of a covariance, W W^T, float64 (d, d): its columns are of uncorrelated units."""
    covariance = centred.T @ centred / len(centred)
    average = covariance.trace() / len(covariance)
    covariance = (1 - shrinkage) * covariance + shrinkage * average * torch.eye(len(covariance)).to(covariance)
    values, directions = torch.linalg.eigh(covariance)
    least = values.abs().amax() * len(values) * torch.finfo(values.dtype).eps  # as torch.linalg.pinv
    return directions * torch.where(values > least, values.clamp_min(least).rsqrt(), 0)


def _squared_distances(points: Tensor, others: Tensor) -> Tensor:
    """Squared distances of (n, d) to (m, d), (n, m), never below 0."""
    squares = points.square().sum(dim=1)[:, None] + others.square().sum(dim=1)[None]
    return (squares - 2 * points @ others.T).clamp_min(0)


class Knn:
    """Distance to the k-th nearest ID training image, of features of length 1 (Sun et al. 2022).

    Args:
        k: of the neighbour, at most the number of training images.
        normalize: false: of features as they are.
    """

    requires_fit = True

    def __init__(self, k: int = 50, normalize: bool = True):
        if k < 1:
            raise ValueError(f"k is {k}, expected at least 1")
        self.k, self.normalize = k, normalize

    def _prepared(self, features: Tensor) -> Tensor:
        return functional.normalize(features.float()) if self.normalize else features.float()

    def fit_features(self, features: Tensor, labels: Tensor) -> None:
        """Keep ID features (n, d); the labels are not looked at."""
        if len(features) < self.k:
            raise ValueError(f"k={self.k} exceeds the number of ID samples ({len(features)})")
        self.known = self._prepared(features)

    def predict_features(self, features: Tensor) -> Tensor:
        """Scores (n,) of features (n, d)."""
        if torch.compiler.is_exporting():  # a graph has no loop over an unknown number of images
            return self._scores(features)
        return torch.cat([self._scores(part) for part in features.split(max(1, AT_ONCE // len(self.known)))])

    def _scores(self, features: Tensor) -> Tensor:
        squares = _squared_distances(self._prepared(features).double(), self.known.double())
        return squares.topk(self.k, dim=1, largest=False).values[:, -1].sqrt()


class Vim:
    """Virtual-logit matching (Wang et al. 2022): energy, and the length of the features outside their main directions.

    Args:
        weight: of the last layer, (C, width).
        bias: (C,).
        d: main directions, fewer than the features have.
    """

    requires_fit = True

    def __init__(self, weight: Tensor, bias: Tensor, d: int):
        if not 0 < d < weight.shape[1]:
            raise ValueError(f"d is {d}, expected 1 to {weight.shape[1] - 1} with features of width {weight.shape[1]}")
        self.weight, self.bias, self.d = weight.double(), bias.double(), d

    def fit_features(self, features: Tensor, labels: Tensor) -> None:
        """Directions and scale of ID features (n, width); the labels are not looked at."""
        self.origin = -torch.linalg.pinv(self.weight) @ self.bias
        centred = features.double() - self.origin
        self.minor = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, : -self.d]  # the larger the later
        self.alpha = self._logits(features).amax(dim=1).mean() / self._residuals(features).mean()

    def _logits(self, features: Tensor) -> Tensor:
        return features.double() @ self.weight.T + self.bias

    def _residuals(self, features: Tensor) -> Tensor:
        return ((features.double() - self.origin) @ self.minor).norm(dim=1)

    def predict_features(self, features: Tensor) -> Tensor:
        """Scores (n,) of features (n, width)."""
        return self.alpha * self._residuals(features) - self._logits(features).logsumexp(dim=1)
