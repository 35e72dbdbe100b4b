"""Which values of an image speak for its class, and images where those alone are moved (ASCOOD, arXiv 2411.10794)."""

from typing import Literal

import torch
from torch import Tensor, nn

Sign = Literal["plus", "minus"]


def attribution(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The gradient of each image's own logit with respect to its values.

    Args:
        model: gives logits and features, in eval mode, where no image feels the others.
        images: float32 in 0..1, (n, channels, h, w).
        labels: int64 (n,).

    Returns:
        float32 (n, channels, h, w).
    """
    images = images.clone().requires_grad_()
    logits = model(images)[0].float().gather(1, labels[:, None])
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    return gradient


def largest(values: Tensor, share: float) -> Tensor:
    """A mask, bool as `values` (n, ...): the `share` of each row's values that are largest, at least one."""
    flat = values.flatten(1)
    kept = flat.topk(max(1, round(share * flat.shape[1])), dim=1).indices
    return flat.new_zeros(flat.shape).bool().scatter(1, kept, True).view(values.shape)


def moved(images: Tensor, gradient: Tensor, scale: Tensor, share: float, step: float, sign: Sign) -> Tensor:
    """Images whose values of the largest gradient took a step along it, float (n, channels, h, w) in 0..1.

    Args:
        scale: standard deviation of ID pixels in 0..1, broadcast over the images.
        share: of the values, those that are moved.
        step: root mean square of the moved values' steps, in units of `scale`.
        sign: `plus` moves along the gradient, `minus` against it.
    """
    mask = largest(gradient.abs(), share)
    masked = gradient * mask
    length = (masked.square().flatten(1).sum(dim=1) / mask.flatten(1).sum(dim=1)).sqrt().view(-1, 1, 1, 1)
    way = step * scale * masked / length.clamp_min(1e-12)
    return (images + way if sign == "plus" else images - way).clamp(0, 1)
