"""MICL, the mutual-information contrastive loss: ID features that say little of the outliers around them.

OAL adds an upper bound of the mutual information between outlier vectors and ID features to its loss. Its released
code pairs the two at random, which makes the information 0 by construction and the term's expected gradient 0, and
never fits the network that the bound needs (`pairing: random` has the first of these). Here the estimator is fitted in
steps of its own, on features that it may not move, and an ID image is paired with an outlier of its own class.

Any outlier of the class will not do: all that such pairs share is the class, so the term takes class means out of the
features, against the cross-entropy. Therefore an image is paired with one of the outliers of its class that the teacher
finds most like it, and class means are removed from both sides: what is left is information within the class, and the
term's gradient on the features sums to zero over each class.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.classifier.terms import Context, Step
from pipeline.runtime.processes import average
from pipeline.settings.recipes import Micl

WIDTH = 128  # of the estimators' hidden layers
SIDE = 8  # latents are averaged down to this height and width
NEAREST = 5  # outliers of its class that an ID image may be paired with
LOG_VARIANCES = 3.0  # size of the largest: a variance that falls without end makes the bound do likewise


def outlier_vectors(raw_latents: Tensor, embeddings: Tensor | None) -> Tensor:
    """What is known of an outlier, (n, d): its latent (n, C, h, w), and the teacher's features of its image (n, f)."""
    side = min(SIDE, raw_latents.shape[-1])
    pooled = functional.adaptive_avg_pool2d(raw_latents, side).flatten(1)
    return pooled if embeddings is None else torch.cat([pooled, embeddings], dim=1)


def network(inputs: int, outputs: int) -> nn.Sequential:
    """A small perceptron."""
    return nn.Sequential(nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, outputs))


class Club(nn.Module):
    """Contrastive log-ratio upper bound (Cheng et al. 2020, section 3.2) with a Gaussian q(y | x).

    E[log q(y|x)] over pairs minus E[log q(y|x)] over all combinations: at least I(x; y) where q is the conditional,
    which `fitting_loss` makes it by likelihood. Its variances are between e^-3 and e^3 (those of OAL's code between
    1/e and e), for values of about unit variance.

    Args:
        x_width: of the vectors x.
        y_width: of the vectors y.
    """

    def __init__(self, x_width: int, y_width: int):
        super().__init__()
        self.mean, self.free_log_variance = network(x_width, y_width), network(x_width, y_width)

    def log_variance(self, x: Tensor) -> Tensor:
        """Of q(y | x), (n, y_width)."""
        return LOG_VARIANCES * (self.free_log_variance(x) / LOG_VARIANCES).tanh()

    def fitting_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean negative log-likelihood of the pairs, up to a constant."""
        mean, log_variance = self.mean(x), self.log_variance(x)
        return ((y - mean).square() / log_variance.exp() + log_variance).sum(dim=1).mean() / 2

    def information(self, x: Tensor, y: Tensor) -> Tensor:
        """The bound in nats; (n, x_width) and (n, y_width), row i of one belongs to row i of the other."""
        mean, precision = self.mean(x), (-self.log_variance(x)).exp()
        of_pairs = (y - mean).square()
        # mean over j of (y_j - mean_i)^2, without the n x n x d cube
        of_all = y.square().mean(dim=0) - 2 * mean * y.mean(dim=0) + mean.square()
        return ((of_all - of_pairs) * precision).sum(dim=1).mean() / 2


class InfoNCE(nn.Module):
    """The contrastive lower bound (van den Oord et al. 2018, section 2.3), at most ln n for n pairs.

    Its critic is a scaled dot product of two perceptrons' outputs, fitted by raising the bound.
    """

    def __init__(self, x_width: int, y_width: int):
        super().__init__()
        self.of_x, self.of_y = network(x_width, WIDTH), network(y_width, WIDTH)

    def fitting_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The negated bound."""
        return -self.information(x, y)

    def information(self, x: Tensor, y: Tensor) -> Tensor:
        """The bound in nats; (n, x_width) and (n, y_width), row i of one belongs to row i of the other."""
        scores = self.of_x(x) @ self.of_y(y).T / math.sqrt(WIDTH)
        return (scores.diagonal() - scores.logsumexp(dim=1)).mean() + math.log(len(x))


ESTIMATORS = {"club": Club, "infonce": InfoNCE}


class PartnerBank:
    """Outlier vectors by parent class, to pair with ID images of that class.

    Args:
        vectors: float (n, d), standardised here.
        parents: int64 (n, 2): the classes each was made from, twice the same or -1 where there is none; at least one
            vector has one.
        embeddings: float (n, f), the teacher's features of the outliers, for `nearest`.
    """

    def __init__(self, vectors: Tensor, parents: Tensor, classes: int, embeddings: Tensor | None = None):
        self.embeddings = embeddings
        self.vectors = (vectors - vectors.mean(dim=0)) / vectors.std(dim=0).clamp_min(1e-6)
        rows = [(parents == label).any(dim=1).nonzero().squeeze(1) for label in range(classes)]
        self.counts = torch.tensor([len(own) for own in rows], device=vectors.device)
        self.starts, self.rows = self.counts.cumsum(dim=0) - self.counts, torch.cat(rows)

    def has_partner(self, labels: Tensor) -> Tensor:
        """For ID labels (m,): bool (m,), an outlier was made from that class."""
        return self.counts[labels] > 0

    def partners(self, labels: Tensor) -> Tensor:
        """A random outlier of the class of each label: float (m, d) for labels (m,) that all have one."""
        return self.vectors[self.rows[self.starts[labels] + random_below(self.counts[labels])]]

    def anyone(self, labels: Tensor) -> Tensor:
        """A random outlier for each label, whatever its class: float (m, d)."""
        return self.vectors[random_below(torch.full_like(labels, len(self.vectors)))]

    def nearest(self, labels: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """The `NEAREST` outliers of its class to each image, for the teacher: rows int64 (m, NEAREST), and how many.

        A class that has fewer leaves the rest of its rows at 0.

        Args:
            labels: (m,), of classes that have outliers.
            embeddings: the teacher's features of the images, (m, f).
        """
        assert self.embeddings is not None
        counts = self.counts[labels].clamp(max=NEAREST)
        found = torch.zeros(len(labels), NEAREST, dtype=torch.int64, device=labels.device)
        for label in labels.unique():
            own = labels == label
            rows = self.rows[self.starts[label] : self.starts[label] + self.counts[label]]
            distances = torch.cdist(embeddings[own], self.embeddings[rows])
            near = rows[distances.topk(min(NEAREST, len(rows)), largest=False).indices]
            found[own] = functional.pad(near, (0, NEAREST - near.shape[1]))
        return found, counts

    def alike(self, nearest: Tensor, counts: Tensor) -> Tensor:
        """For each image a random one of its nearest outliers, see `nearest`: float (m, d)."""
        return self.vectors[nearest.gather(1, random_below(counts)[:, None]).squeeze(1)]


def random_below(counts: Tensor) -> Tensor:
    """A random index below each count, int64 (m,); of the CPU's generator, which a checkpoint keeps."""
    random = torch.rand(len(counts)).to(counts.device)
    return (random * counts).long().minimum(counts - 1)


def without_class_means(values: Tensor, labels: Tensor) -> Tensor:
    """Values (n, d) less the mean of those of their class, (n,) labels; a gradient on them sums to 0 in each class."""
    _, places = labels.unique(return_inverse=True)
    one_hot = functional.one_hot(places).to(values.dtype)
    return values - one_hot @ (one_hot.T @ values / one_hot.sum(dim=0)[:, None])


class MiclTerm:
    """The loss term, with an estimator that is fitted before each use."""

    def __init__(self, settings: Micl, context: Context):
        assert context.bank is not None
        self.weight, self.settings, self.bank = settings.weight, settings, context.bank
        vectors = context.bank.vectors
        self.estimator: Any = ESTIMATORS[settings.estimator](vectors.shape[1], context.width).to(vectors.device)
        self.optimizer = torch.optim.Adam(self.estimator.parameters(), settings.learning_rate)

    def __call__(self, step: Step) -> Tensor:
        """The estimated information between ID features and outliers of their classes, in nats.

        Every fitting step pairs anew: an estimator fitted to the very pairs it judges would find more than there is.
        """
        features, paired = step.features[step.is_id], self.bank.has_partner(step.labels)
        labels = step.labels[paired]
        with torch.autocast(features.device.type, enabled=False):
            directions = self._directions(features[paired].float(), labels)
            draw = self._partners(step, labels, paired)
            for _ in range(self.settings.fitting_steps):
                self._fit(draw(), directions.detach())
            self.estimator.requires_grad_(False)
            information = self.estimator.information(draw(), directions)
            self.estimator.requires_grad_(True)
        return information

    @property
    def _within_class(self) -> bool:
        return self.settings.pairing == "within-class"

    def _directions(self, features: Tensor, labels: Tensor) -> Tensor:
        """Of length sqrt(width), so that the term cannot be lowered by shrinking features."""
        features = without_class_means(features, labels) if self._within_class else features
        return functional.normalize(features) * math.sqrt(features.shape[1])

    def _partners(self, step: Step, labels: Tensor, paired: Tensor) -> Callable[[], Tensor]:
        """What draws an outlier vector for each of the images that have one."""
        if not self._within_class:
            draw = self.bank.anyone if self.settings.pairing == "random" else self.bank.partners
            return lambda: draw(labels)
        nearest = self.bank.nearest(labels, step.taught[1][paired])
        return lambda: without_class_means(self.bank.alike(*nearest), labels)

    def _fit(self, partners: Tensor, directions: Tensor) -> None:
        self.optimizer.zero_grad()
        self.estimator.fitting_loss(partners, directions).backward()
        for parameter in self.estimator.parameters():  # one estimator, whatever number of processes
            parameter.grad = average(parameter.grad)
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """What an interrupted training needs to go on."""
        return {"estimator": self.estimator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.estimator.load_state_dict(state["estimator"])
        self.optimizer.load_state_dict(state["optimizer"])
