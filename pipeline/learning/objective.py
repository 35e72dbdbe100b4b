"""What a classifier is trained for: cross-entropy on ID, uniformity on outliers, the teacher's word."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Batch(NamedTuple):
    """One concatenated batch: images float in 0..1, (n, channels, h, w), and labels (n,), -1 for outliers."""

    images: Tensor
    labels: Tensor


def exposure(logits: Tensor) -> Tensor:
    """Mean cross-entropy from the uniform distribution to the softmax, H(U, p) = KL(U || p) + ln C.

    Outlier exposure (Hendrycks et al. 2019, section 3): logsumexp(z) - mean(z). It is ln C, its least value,
    where all logits of an outlier are equal.

    Args:
        logits: (n, C), n > 0.
    """
    return (logits.logsumexp(dim=1) - logits.mean(dim=1)).mean()


def distillation(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of softened softmaxes times temperature squared (Hinton et al. 2015).

    Zero exactly where student and teacher agree. Both (n, C).
    """
    student = functional.log_softmax(logits / temperature, dim=1)
    teacher = functional.log_softmax(teacher_logits / temperature, dim=1)
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def objective(
    exposure_weight: float = 0.0,
    distillation_weight: float = 0.0,
    temperature: float = 1.0,
    teacher: nn.Module | None = None,
) -> Callable[[nn.Module, Batch], dict[str, Tensor]]:
    """The loss terms of a recipe, for `loop.fit`; a term with weight 0 is not computed.

    ID and outliers go through the network in one concatenated forward pass, so that batch normalisation
    sees both (OpenOOD issue 138: separate passes made exposure look worse than no outliers).
    """

    def terms(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        logits = model(batch.images)[0].float()
        known = batch.labels >= 0
        losses = {"cross_entropy": functional.cross_entropy(logits[known], batch.labels[known])}
        if exposure_weight:
            losses["exposure"] = exposure_weight * exposure(logits[~known])
        if distillation_weight and teacher is not None:
            with torch.no_grad():
                wanted = teacher(batch.images[known])[0].float()
            losses["distillation"] = distillation_weight * distillation(logits[known], wanted, temperature)
        return losses

    return terms
