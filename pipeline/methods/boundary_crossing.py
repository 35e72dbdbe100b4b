"""Boundary crossing: ID latents moved over the teacher's decision boundary by its gradient through the decoder.

BOOD (Liao et al. 2025, arXiv 2508.00350, section 3) moves features of text-to-image embeddings; here latents move, by
the gradient of a classifier that sees their decoded images. In hundreds of dimensions Gaussian noise hardly ever points
at what an image shows; the gradient does.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from pipeline.methods import Draw, Input, Inputs, MethodSettings

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.artifacts.candidates import Candidates


class Settings(MethodSettings):
    """The path of each latent; `sigma` and `step_size` are in standard deviations of the latents."""

    strength = "root mean square over the latent's dimensions of its way from the source, in standard deviations"
    count: PositiveInt
    sigma: NonNegativeFloat
    step_size: PositiveFloat
    max_steps: PositiveInt
    extra_steps: NonNegativeInt
    batch: PositiveInt

    @property
    def reads(self) -> tuple[Input, ...]:
        return ("latents", "autoencoder", "teacher")


def cross(
    vectors: "Tensor", labels: "Tensor", scale: "Tensor", classify: Callable[["Tensor"], "Tensor"], settings: Settings
) -> "Tensor":
    """Climb the cross-entropy of each vector's own class by signed steps, until it left the class and a bit farther.

    A vector stops `extra_steps` after the first step at which another class was likelier, or after `max_steps`.

    Args:
        vectors: (n, ...), not changed.
        labels: int64 (n,), the class that each starts in.
        scale: of each dimension, broadcast over the vectors.
        classify: vectors (m, ...) to logits (m, classes), each by itself, with a gradient.

    Returns:
        (n, ...), where each stopped.
    """
    import torch
    from torch.nn import functional

    moved, active, past = vectors.clone(), torch.arange(len(vectors), device=vectors.device), torch.zeros_like(labels)
    for _ in range(settings.max_steps):
        here = moved[active].requires_grad_()
        logits = classify(here)
        past[active] += (logits.argmax(dim=1) != labels[active]) | (past[active] > 0)
        going = past[active] <= settings.extra_steps
        if not bool(going.any()):
            break
        loss = functional.cross_entropy(logits, labels[active], reduction="sum")  # a sum: no vector feels the others
        (gradient,) = torch.autograd.grad(loss, here)
        active = active[going]
        moved[active] += settings.step_size * scale * gradient[going].sign()
    return moved


def method(settings: Settings, inputs: Inputs) -> Draw:
    """Candidates from random training images, the classes in turn."""
    import torch

    from pipeline.artifacts.candidates import Candidates
    from pipeline.synthesis import drawing, randomness

    latents, teacher = inputs.latents, inputs.teacher
    scale, device = latents.mean.std(dim=0), teacher.mean.device

    def classify(raw_latents: "Tensor") -> "Tensor":
        return teacher(((inputs.decode_images(raw_latents) + 1) / 2).clamp(0, 1))[0].float()

    def draw(indices: range) -> "Candidates":
        rows = drawing.rows_by_class(latents.labels, inputs.seed, "crossing-source", indices)
        noise = randomness.normal(inputs.seed, "crossing", indices, tuple(scale.shape))
        start, labels = latents.mean[rows] + settings.sigma * scale * noise, latents.labels[rows]
        moved = cross(start.to(device), labels.to(device), scale.to(device), classify, settings)
        with torch.no_grad():
            into = classify(moved).argmax(dim=1).cpu()
        way = ((moved.cpu() - latents.mean[rows]) / scale).square().flatten(1).mean(dim=1).sqrt()
        return Candidates.of_latents(moved.cpu(), torch.stack([labels, into], dim=1), way, rows)

    return draw
