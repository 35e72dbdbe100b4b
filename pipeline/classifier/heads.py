"""The last layer, by name: linear, on features of one size, or one of the angular heads of metric learning.

Every head maps features to logits, and to the features as its logits see them: logits = features @ weight.T + bias.
An angular head's class weights lie on the unit sphere, and so do its features (A-Softmax keeps their length). Its
margin is a matter of training alone, on the targets of ID images: an outlier has no target, a test image no label.
"""

import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.settings.heads import AdaCosSettings, ASoftmaxSettings, HeadSettings, LinearSettings, NormalisedSettings

EDGE = 1e-6  # acos has no finite slope at cosines of +-1
SCALES = (1.0, 64.0)  # bounds of the scale that AdaCos finds


class Head(Protocol):
    """What every head offers."""

    weight: Tensor  # (classes, d)
    bias: Tensor  # (classes,)

    def __call__(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, classes), and features (n, d) as the logits see them."""
        ...

    def with_margin(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        """The logits for the cross-entropy of ID images with labels, int64 (n,), from what the head gave for them."""
        ...


class LinearHead(nn.Linear):
    """A plain linear layer."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(features), features

    def with_margin(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        return logits


class NormalisedHead(LinearHead):
    """A linear layer on features of one size, whatever length an image gives them.

    Args:
        by_deviation: features have mean 0 and, over their values, `scale` as their deviation; else `scale` is their
            length.
    """

    def __init__(self, dimension: int, classes: int, by_deviation: bool, scale: float):
        super().__init__(dimension, classes)
        self.by_deviation, self.scale = by_deviation, scale

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        if self.by_deviation:
            features = features - features.mean(dim=1, keepdim=True)
        size = self.scale * (math.sqrt(features.shape[1]) if self.by_deviation else 1)
        return super().forward(functional.normalize(features) * size)


class AngularHead(nn.Module):
    """A margin loss of pytorch-metric-learning, which owns the weights and the margin; the cross-entropy is ours.

    Args:
        margins: CosFaceLoss, ArcFaceLoss, ... with weights `W` (d, classes).
        unit: features are normalised too; else their length is the scale (A-Softmax).
    """

    def __init__(self, margins: Any, unit: bool):
        super().__init__()
        self.margins, self.unit = margins, unit

    @property
    def weight(self) -> Tensor:
        """float32 (classes, d), each row as long as the scale."""
        return self.margins.scale * functional.normalize(self.margins.W.T)

    @property
    def bias(self) -> Tensor:
        """Zeros, (classes,)."""
        return self.margins.W.new_zeros(self.margins.W.shape[1])

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(features.device.type, enabled=False):  # bfloat16 has too few digits for angles
            features = functional.normalize(features.float()) if self.unit else features.float()
            return features @ self.weight.T, features

    def with_margin(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        rows = torch.arange(len(labels), device=labels.device)
        length = self.margins.scale * (1 if self.unit else features.norm(dim=1).clamp_min(EDGE))
        target = (logits[rows, labels] / length).clamp(EDGE - 1, 1 - EDGE)
        shifted = self.margins.modify_cosine_of_target_classes(target) * length
        return logits.index_put((rows, labels), shifted.to(logits.dtype))


class AdaCosHead(nn.Module):
    """Scaled cosines without a margin, the scale found from the angles of each batch (Zhang et al. 2019).

    s_0 = sqrt(2) ln(C - 1); then s = ln B / cos(min(pi/4, median target angle)), with B the mean over ID rows of the
    sum of exp(s cos) over the other classes. Only ID images change it, in training; it stays within 1 to 64, since few
    classes would drive it to 0.
    """

    def __init__(self, dimension: int, classes: int):
        super().__init__()
        self.directions = nn.Parameter(nn.init.xavier_uniform_(torch.empty(classes, dimension)))
        self.scale: Tensor
        start = math.sqrt(2) * math.log(max(2, classes - 1))
        self.register_buffer("scale", torch.tensor(start).clamp(*SCALES))

    @property
    def weight(self) -> Tensor:
        """float32 (classes, d), each row as long as the scale."""
        return self.scale * functional.normalize(self.directions)

    @property
    def bias(self) -> Tensor:
        """Zeros, (classes,)."""
        return self.directions.new_zeros(len(self.directions))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(features.device.type, enabled=False):
            features = functional.normalize(features.float())
            return features @ self.weight.T, features

    def with_margin(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        cosines = logits / self.scale
        if self.training:
            self._adapt(cosines.detach(), labels)
        return self.scale * cosines

    def _adapt(self, cosines: Tensor, labels: Tensor) -> None:
        target = cosines.gather(1, labels[:, None])
        others = (self.scale * cosines).exp().sum(dim=1, keepdim=True) - (self.scale * target).exp()
        angle = target.clamp(-1, 1).acos().median().clamp_max(math.pi / 4)
        self.scale = (others.mean().log() / angle.cos()).clamp(*SCALES)


def build(settings: HeadSettings, dimension: int, classes: int) -> Any:
    """An untrained head for features of a width."""
    if isinstance(settings, LinearSettings):
        return LinearHead(dimension, classes)
    if isinstance(settings, NormalisedSettings):
        return NormalisedHead(dimension, classes, settings.kind == "z-score", settings.scale)
    if isinstance(settings, AdaCosSettings):
        return AdaCosHead(dimension, classes)
    from pipeline.classifier import margins  # a second of imports that only these heads pay

    if isinstance(settings, ASoftmaxSettings):
        return AngularHead(margins.a_softmax(dimension, classes, settings.margin), unit=False)
    return AngularHead(margins.by_name(settings.kind, dimension, classes, settings.scale, settings.margin), unit=True)
