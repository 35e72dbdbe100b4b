"""Relation: how much an image resembles the training images that are answered alike (Kim et al. 2023)."""

import torch
from torch import Tensor
from torch.nn import functional

WEAKEST = 0.03  # relations below it count for nothing, as in the authors' code and in OpenOOD
AT_ONCE = 2**24  # relations held in memory


class Relation:
    """Negative sum of the relations to training images, each to a power.

    A relation is the cosine of two features, at least 0, times the product of two softmaxes.

    Args:
        pow: the power.
    """

    requires_fit = True

    def __init__(self, pow: float = 1):
        self.power = pow

    def fit_outputs(self, logits: Tensor, features: Tensor) -> None:
        """Keep the training images: logits (n, C) and features (n, d)."""
        self.directions, self.softmaxes = _described(logits, features)

    def predict_outputs(self, logits: Tensor, features: Tensor) -> Tensor:
        """Scores (n,) of logits (n, C) and features (n, d)."""
        if torch.compiler.is_exporting():  # a graph has no loop over an unknown number of images
            return self._scores(*_described(logits, features))
        chunk = max(1, AT_ONCE // len(self.directions))
        pieces = zip(*(part.split(chunk) for part in _described(logits, features)), strict=True)
        return torch.cat([self._scores(*piece) for piece in pieces])

    def _scores(self, directions: Tensor, softmaxes: Tensor) -> Tensor:
        relations = (directions @ self.directions.T).clamp_min(0) * (softmaxes @ self.softmaxes.T)
        return -torch.where(relations > WEAKEST, relations, 0).pow(self.power).sum(dim=1, dtype=torch.float64)


def _described(logits: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    return functional.normalize(features.float()), logits.double().softmax(dim=1).float()
