"""Hamiltonian Monte Carlo on the unit sphere between neighbouring classes (after HamOS, Li et al., ICLR 2025).

What is sampled is far from both classes by the k-NN distance, and starts half way between an item of each.
"""

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.settings.virtual import HamiltonianSettings

FLOOR = 1e-6  # of a distance, whose logarithm is taken


def neighbour_classes(units: Tensor, labels: Tensor, count: int) -> dict[int, list[int]]:
    """Of each class, the `count` others whose mean directions are nearest, or all where there are fewer."""
    present = labels.unique()
    means = functional.normalize(torch.stack([units[labels == label].mean(dim=0) for label in present]))
    order = (means @ means.T).fill_diagonal_(-torch.inf).argsort(dim=1, descending=True)[:, :-1]
    return {int(label): present[row[:count]].tolist() for label, row in zip(present, order, strict=True)}


def knn_distance(points: Tensor, units: Tensor, allowed: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th nearest of the allowed units, or the farthest where there are fewer.

    Args:
        points: (m, d).
        units: (n, d).
        allowed: bool (m, n), at least one in every row.
    """
    distances = torch.cdist(points, units).masked_fill(~allowed, torch.inf)
    distances = distances.topk(min(k, len(units)), largest=False).values
    kth = (allowed.sum(dim=1) - 1).clamp_max(k - 1)
    return distances.gather(1, kth[:, None])[:, 0]


def tangent(vectors: Tensor, points: Tensor) -> Tensor:
    """The part of the vectors (m, d) that is tangent to the sphere at its points (m, d)."""
    return vectors - (vectors * points).sum(dim=1, keepdim=True) * points


def _potential(points: Tensor, units: Tensor, pairs: list[Tensor], k: int) -> tuple[Tensor, Tensor]:
    """Minus the logarithm of how unlikely points are for both classes, (m,), and its slope on the sphere, (m, d)."""
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        distances = [knn_distance(points, units, allowed, k) for allowed in pairs]
        height = -torch.stack([distance.clamp_min(FLOOR).log() for distance in distances]).sum(dim=0)
        (gradient,) = torch.autograd.grad(height.sum(), points)
    return height.detach(), tangent(gradient, points.detach())


def _leap(points: Tensor, speed: Tensor, size: float) -> tuple[Tensor, Tensor]:
    """Along the great circle of the speed, which is carried along, by the angle `size` times its length."""
    length = speed.norm(dim=1, keepdim=True).clamp_min(FLOOR)
    angle = size * length
    moved = angle.cos() * points + angle.sin() * speed / length
    return functional.normalize(moved), angle.cos() * speed - angle.sin() * length * points


def between_classes(units: Tensor, labels: Tensor, count: int, settings: HamiltonianSettings) -> Tensor:
    """Draw outliers between neighbouring classes.

    Args:
        units: ID features of length 1, float32 (n, d).
        labels: int64 (n,).
        count: of the outliers.

    Returns:
        float32 (count, d) of length 1; none where the items are of one class alone.
    """
    near = neighbour_classes(units, labels, settings.classes)
    if len(near) < 2:
        return units[:0]
    device, k = units.device, settings.neighbours
    first = torch.randint(len(units), (count,)).to(device)
    other = torch.tensor(
        [near[label][int(torch.randint(len(near[label]), ()))] for label in labels[first].tolist()], device=device
    )
    pairs = [labels[first][:, None] == labels, other[:, None] == labels]
    second = torch.rand(pairs[1].shape).to(device).masked_fill(~pairs[1], -1).argmax(dim=1)
    points = functional.normalize(units[first] + units[second])
    for _ in range(settings.rounds):
        points = _round(points, units, pairs, k, settings)
    return points


def _round(points: Tensor, units: Tensor, pairs: list[Tensor], k: int, settings: HamiltonianSettings) -> Tensor:
    """A few leapfrog steps from a fresh speed, taken or refused by Metropolis' rule."""
    size, device = settings.step_size, points.device
    speed = tangent(torch.randn(points.shape).to(device), points)
    height, slope = _potential(points, units, pairs, k)
    energy = height + speed.square().sum(dim=1) / 2
    new, speed = points, speed - size / 2 * slope
    for leap in range(1, settings.leaps + 1):
        new, speed = _leap(new, speed, size)
        height, slope = _potential(new, units, pairs, k)
        speed = speed - (size if leap < settings.leaps else size / 2) * slope
    found = height + speed.square().sum(dim=1) / 2
    taken = torch.rand(len(points)).to(device) < (energy - found).exp()
    return torch.where(taken[:, None], new, points)
