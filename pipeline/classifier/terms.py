"""What a loss term is: a small class, built from its settings, that is called with each step of the training."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from pipeline.classifier.micl import PartnerBank
    from pipeline.training.loaders import Batch

Network = Callable[[Tensor], tuple[Tensor, Tensor]]  # images to logits and features


@dataclass(frozen=True)
class Context:
    """What terms are built for.

    Attributes:
        width: of the student's features.
        teacher: to distil from, on the student's device, where a term needs it.
        bank: outliers to pair ID features with, where a term needs them.
    """

    width: int
    teacher: Any = None
    bank: "PartnerBank | None" = None


class Step:
    """A batch as the terms see it.

    Attributes:
        images: float in 0..1, (n, channels, h, w).
        is_id: bool (n,); the others are outliers.
        labels: int64, of the ID images.
        logits: float32 (n, C).
        features: (n, d).
    """

    def __init__(self, batch: "Batch", logits: Tensor, features: Tensor, teacher: Network | None):
        self.images, self.is_id = batch.images, batch.labels >= 0
        self.labels = batch.labels[self.is_id]
        self.logits, self.features, self._teacher = logits.float(), features, teacher

    @cached_property
    def taught(self) -> tuple[Tensor, Tensor]:
        """The teacher's logits and features of the ID images, float32; computed once for all terms."""
        assert self._teacher is not None
        with torch.no_grad():
            logits, features = self._teacher(self.images[self.is_id])
        return logits.float(), features.float()


class Term(Protocol):
    """A loss term."""

    weight: float

    def __call__(self, step: Step) -> Tensor:
        """Its value, not weighted, a scalar."""
        ...
