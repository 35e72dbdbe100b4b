"""MICL, the mutual-information contrastive loss: ID features that say little of the outliers around them.

OAL adds an upper bound of the mutual information between outlier vectors and ID features to its loss. Its released
code pairs the two at random, which makes the information 0 by construction and the term's expected gradient 0, and
never fits the network that the bound needs. Here both are mended: an ID image is paired with an outlier made from its
own class, so that the two depend on each other, and the estimator is fitted in steps of its own, on features that it
may not move.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.classifier.terms import Context, Step
from pipeline.runtime.processes import average
from pipeline.settings.recipes import Micl

WIDTH = 128  # of the estimators' hidden layers
SIDE = 8  # latents are averaged down to this height and width


def outlier_vectors(raw_latents: Tensor, embeddings: Tensor) -> Tensor:
    """What is known of an outlier, (n, d): its latent (n, C, h, w), and the teacher's features of its image (n, f)."""
    side = min(SIDE, raw_latents.shape[-1])
    return torch.cat([functional.adaptive_avg_pool2d(raw_latents, side).flatten(1), embeddings], dim=1)


def network(inputs: int, outputs: int) -> nn.Sequential:
    """A small perceptron."""
    return nn.Sequential(nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, outputs))


class Club(nn.Module):
    """Contrastive log-ratio upper bound (Cheng et al. 2020, section 3.2) with a Gaussian q(y | x).

    E[log q(y|x)] over pairs minus E[log q(y|x)] over all combinations: at least I(x; y) where q is the conditional,
    which `fitting_loss` makes it by likelihood.

    Args:
        x_width: of the vectors x.
        y_width: of the vectors y.
    """

    def __init__(self, x_width: int, y_width: int):
        super().__init__()
        self.mean, self.log_variance = network(x_width, y_width), network(x_width, y_width)

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
    """

    def __init__(self, vectors: Tensor, parents: Tensor, classes: int):
        self.vectors = (vectors - vectors.mean(dim=0)) / vectors.std(dim=0).clamp_min(1e-6)
        rows = [(parents == label).any(dim=1).nonzero().squeeze(1) for label in range(classes)]
        self.counts = torch.tensor([len(own) for own in rows], device=vectors.device)
        self.starts, self.rows = self.counts.cumsum(dim=0) - self.counts, torch.cat(rows)

    def has_partner(self, labels: Tensor) -> Tensor:
        """For ID labels (m,): bool (m,), an outlier was made from that class."""
        return self.counts[labels] > 0

    def partners(self, labels: Tensor) -> Tensor:
        """A random outlier of the class of each label: float (m, d) for labels (m,) that all have one."""
        counts = self.counts[labels]
        random = torch.rand(len(labels)).to(labels.device)  # of the CPU's generator, which a checkpoint keeps
        offset = (random * counts).long().minimum(counts - 1)
        return self.vectors[self.rows[self.starts[labels] + offset]]


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
            directions = functional.normalize(features[paired].float()) * math.sqrt(features.shape[1])
            for _ in range(self.settings.fitting_steps):
                self._fit(labels, directions.detach())
            self.estimator.requires_grad_(False)
            information = self.estimator.information(self.bank.partners(labels), directions)
            self.estimator.requires_grad_(True)
        return information

    def _fit(self, labels: Tensor, directions: Tensor) -> None:
        self.optimizer.zero_grad()
        self.estimator.fitting_loss(self.bank.partners(labels), directions).backward()
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
