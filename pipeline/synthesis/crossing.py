"""Crossing outliers: ID vectors moved over a classifier's decision boundary by its gradient.

BOOD (Liao et al. 2025, arXiv 2508.00350, section 3) moves features of text-to-image embeddings; here latents move, by
the gradient of a classifier that looks at their decoded images, so that the direction changes what they show.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def cross(
    vectors: Tensor, labels: Tensor, scale: Tensor, classify: Callable[[Tensor], Tensor], stride: float, most: int,
    beyond: int,
) -> Tensor:  # fmt: skip
    """Climb the cross-entropy of each vector's own class by signed steps, until it left the class and a bit farther.

    A vector stops `beyond` steps after the first one at which another class was likelier, or after `most` steps.

    Args:
        vectors: (n, ...), not changed.
        labels: int64 (n,), the class that each starts in.
        scale: of each dimension, broadcast over the vectors.
        classify: vectors (m, ...) to logits (m, classes), each by itself, with a gradient.
        stride: of a step, in `scale`.

    Returns:
        (n, ...), where each stopped.
    """
    moved, active, past = vectors.clone(), torch.arange(len(vectors), device=vectors.device), torch.zeros_like(labels)
    for _ in range(most):
        here = moved[active].requires_grad_()
        logits = classify(here)
        past[active] += (logits.argmax(dim=1) != labels[active]) | (past[active] > 0)
        going = past[active] <= beyond
        if not bool(going.any()):
            break
        loss = functional.cross_entropy(logits, labels[active], reduction="sum")  # a sum: no vector feels the others
        (gradient,) = torch.autograd.grad(loss, here)
        active = active[going]
        moved[active] += stride * scale * gradient[going].sign()
    return moved
