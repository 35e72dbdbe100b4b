"""OOD scores of a single model output in PyTorch alone, and p-values.

A score is larger for OOD.
"""

import torch
from torch import Tensor
from torch.nn import functional


def max_softmax(logits: Tensor) -> Tensor:
    """Negative largest softmax probability, float64 (n,): in float32 confident ones tie at 1 (MSP, Hendrycks 2017)."""
    return -logits.double().softmax(dim=1).amax(dim=1)


def max_cosine(features: Tensor, weight: Tensor) -> Tensor:
    """Negative largest cosine between a feature and a class weight, float64 (n,).

    The score of angular heads: with scale 30 the softmax of a cosine of 0.8 is 1 in float32, the cosine is not.

    Args:
        features: (n, d).
        weight: (classes, d), of the last layer.
    """
    directions = functional.normalize(weight.double(), dim=1)
    return -(functional.normalize(features.double(), dim=1) @ directions.T).amax(dim=1)


def p_values(scores: Tensor, id_scores: Tensor) -> Tensor:
    """Conformal p-values (Vovk et al. 2005, section 2.2; Bates et al. 2023 for outliers), float64 (n,).

    The share of held-out ID images that score at least as high, the image itself counted among them. Of ID images as
    the held-out ones at most a share `a` has a p-value of at most `a`, for every `a`.

    Args:
        scores: (n,), larger for OOD.
        id_scores: of ID images that trained nothing, (m,).
    """
    as_high = (id_scores[None] >= scores[:, None]).sum(dim=1, dtype=torch.float64)
    return (1 + as_high) / (len(id_scores) + 1)
