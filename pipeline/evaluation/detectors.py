"""Detectors of pytorch-ood on cached logits and features. A score is larger for OOD.

Adding one is one line in `DETECTORS`.
"""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from pytorch_ood.detector import KNN, EnergyBased, Mahalanobis, MaxLogit, MaxSoftmax, ViM
from torch import Tensor

from pipeline.artifacts.outputs import Head, Outputs
from pipeline.errors import UserError
from pipeline.learning.scores import max_cosine

logging.getLogger("pytorch_ood").setLevel(logging.ERROR)


class MaxCosine:
    """Negative largest cosine of a feature and a class weight: the score of angular heads, which pytorch-ood lacks."""

    def __init__(self, weight: Tensor):
        self.weight = weight

    def fit_features(self, features: Tensor, labels: Tensor) -> None:
        """There is nothing to fit."""

    def predict_features(self, features: Tensor) -> Tensor:
        return max_cosine(features, self.weight)


DETECTORS: dict[str, Callable[..., Any]] = {
    "msp": lambda head, **options: MaxSoftmax(None, **options),
    "max-logit": lambda head, **options: MaxLogit(None, **options),
    "energy": lambda head, **options: EnergyBased(None, **options),
    "knn": lambda head, **options: KNN(None, **options),
    "mahalanobis": lambda head, **options: Mahalanobis(None, **options),
    "vim": lambda head, **options: ViM(None, w=head.weight, b=head.bias, **options),
    "max-cosine": lambda head, **options: MaxCosine(head.weight, **options),
}
Scorer = Callable[[Outputs], np.ndarray]


def fit(name: str, options: dict[str, Any], train: Outputs, head: Head) -> Scorer:
    """A detector fitted on the ID training outputs: a function from outputs to scores, float64 (n,).

    Logit detectors see float64, so that confident softmaxes do not tie at 1.

    Args:
        name: a key of `DETECTORS`.
        options: arguments of the pytorch-ood class.

    Raises:
        UserError: the detector is unknown, or its options do not fit.
    """
    if name not in DETECTORS:
        raise UserError(f"params.yaml: score.detectors: unknown {name!r}; expected some of {', '.join(DETECTORS)}")
    try:
        detector = DETECTORS[name](head, **options)
        if not hasattr(detector, "fit_features"):
            return lambda outputs: detector.predict_logits(outputs.logits.double()).numpy()
        detector.fit_features(train.features, train.labels)
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(f"params.yaml: score.detectors.{name}: {options}: {error}; correct its options") from None
    return lambda outputs: detector.predict_features(outputs.features).double().numpy()
