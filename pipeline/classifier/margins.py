"""The margins of angular heads, from pytorch-metric-learning; what it lacks is added to its classes."""

import math
from typing import Any, Literal

import torch
from pytorch_metric_learning.losses import ArcFaceLoss, CosFaceLoss, SphereFaceLoss
from torch import Tensor

ANNEALING = (1500.0, 0.1, 5.0)  # lambda = max(5, 1500 / (1 + 0.1 step)), as the loss's PyTorch releases have it


class NormalisedSphereFace(CosFaceLoss):
    """cos(m t) of normalised features for any real m >= 0, continued so that it falls on all of 0..pi.

    For k = floor(m t / pi) it is (-1)^k cos(m t) - 2k, A-Softmax's own continuation (Liu et al. 2017, section 3.2):
    plain cos(m t) turns back at t = pi / m, which is 133 degrees for m = 1.35.
    """

    def modify_cosine_of_target_classes(self, cosine_of_target_classes: Tensor) -> Tensor:
        angles = self.margin * cosine_of_target_classes.acos()
        k = (angles.detach() / math.pi).floor()
        return (1 - 2 * (k % 2)) * angles.cos() - 2 * k


class AnnealedSphereFace(SphereFaceLoss):
    """A-Softmax, mixed with the plain cosine at first: without that m = 4 often does not train at all.

    (lambda cos t + psi(t)) / (1 + lambda), where lambda falls with each training step that has labels.
    """

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.step: Tensor
        self.register_buffer("step", torch.tensor(0))

    def modify_cosine_of_target_classes(self, cosine_of_target_classes: Tensor) -> Tensor:
        start, rate, least = ANNEALING
        weight = (start / (1 + rate * self.step)).clamp_min(least)
        if self.training:
            self.step += 1
        psi = super().modify_cosine_of_target_classes(cosine_of_target_classes)
        return (weight * cosine_of_target_classes + psi) / (1 + weight)


def a_softmax(dimension: int, classes: int, margin: int) -> AnnealedSphereFace:
    """A-Softmax with an integer margin factor."""
    return AnnealedSphereFace(num_classes=classes, embedding_size=dimension, margin=margin, scale=1)


def by_name(
    kind: Literal["cosface", "arcface", "sphereface"], dimension: int, classes: int, scale: float, margin: float
) -> CosFaceLoss | ArcFaceLoss:
    """A margin of normalised features; ArcFace's in radians, though the library counts in degrees."""
    kinds = {"cosface": CosFaceLoss, "arcface": ArcFaceLoss, "sphereface": NormalisedSphereFace}
    found = math.degrees(margin) if kind == "arcface" else margin
    return kinds[kind](num_classes=classes, embedding_size=dimension, margin=found, scale=scale)
