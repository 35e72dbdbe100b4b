"""Boundary outliers: Gaussian perturbations of the ID latents that lie farthest out (OAL, arXiv 2406.16525).

Per class, as in the released code's section "per-class k-NN sampling", with its indexing repaired: there the
draws that are kept belong to other anchors than the one they were ranked for, so that the choice is random.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.synthesis.neighbours import kth_distance

FIRST = 8  # draws measured exactly to set the first bar
ROWS = 64  # draws counted at once: small enough for the processor's cache
ROUNDING = 1e-4  # of the largest distance: far above the rounding of a float32 product


@dataclass(frozen=True)
class Perturbations:
    """Kept perturbations of one class: latents (anchors, keep, d); the anchors' rows in the class (anchors,)."""

    latents: Tensor
    anchors: Tensor


def find_anchors(latents: Tensor, neighbours: int, count: int) -> Tensor:
    """Rows of the `count` latents of a class with the largest distance to their k-th other latent, farthest first.

    Args:
        latents: (n, d), n > neighbours.
    """
    distances = kth_distance(latents, latents, neighbours + 1)  # the latent itself is the first
    return distances.argsort(descending=True, stable=True)[:count]


class Surroundings:
    """The latents of a class and the draws that its anchors share, prepared for many anchors.

    With shared draws |a + e - x|^2 = |a - x|^2 + |e|^2 + 2 e.a - 2 e.x needs the large product e.x once, not once
    an anchor.

    Args:
        latents: (n, d).
        noise: (draws, d), already scaled.
        neighbours: k of the distance, at most n.
    """

    def __init__(self, latents: Tensor, noise: Tensor, neighbours: int):
        self.latents = latents.double() - latents.double().mean(dim=0)
        self.noise = noise.double()
        self.neighbours = neighbours
        self.squares = self.latents.square().sum(dim=1)
        self.lengths = self.noise.square().sum(dim=1)
        self.products = noise.float() @ self.latents.T.float()  # (draws, n)

    def kth_squared(self, points: Tensor) -> Tensor:
        """Squared distance of each point (m, d) to its k-th nearest latent, (m,)."""
        squared = torch.addmm(points.square().sum(dim=1)[:, None] + self.squares, points, self.latents.T, alpha=-2)
        return squared.kthvalue(self.neighbours, dim=1).values

    def farthest(self, row: int, keep: int) -> Tensor:
        """The `keep` draws that carry the latent in `row` farthest from the class, farthest first.

        Far means the largest distance to the k-th nearest latent. Most draws are ruled out by counting in
        float32: one with k latents within the bar, the distance of the `keep`-th best so far, less a margin for
        rounding, cannot be among the best. The others are measured exactly.
        """
        anchor = self.latents[row]
        to_latents = self.squares + self.squares[row] - 2 * (self.latents @ anchor)  # |a - x|^2
        offsets = self.lengths + 2 * (self.noise @ anchor)  # |e|^2 + 2 e.a
        margin = ROUNDING * (to_latents.max() + offsets.abs().max())
        halves = (to_latents / 2).float()
        order = offsets.argsort(descending=True)  # long draws first: they set a bar that few others pass
        best, distances = order[:0], offsets[:0]
        for chunk in (order[: max(keep, FIRST)], *order[max(keep, FIRST) :].split(ROWS)):
            if len(best) == keep:
                needed = ((offsets[chunk] - distances[-1] + margin) / 2).float()
                inside = (self.products[chunk] - halves >= needed[:, None]).sum(dim=1)
                chunk = chunk[inside < self.neighbours]
            found = torch.cat([distances, self.kth_squared(anchor + self.noise[chunk])])
            distances, kept = found.sort(descending=True, stable=True)
            best, distances = torch.cat([best, chunk])[kept[:keep]], distances[:keep]
        return best


def perturb(latents: Tensor, anchors: Tensor, noise: Tensor, neighbours: int, keep: int) -> Perturbations:
    """Perturb each anchor of a class by every draw and keep its own farthest.

    Args:
        latents: (n, d), of one class.
        anchors: rows of the anchors, from `find_anchors`.
        noise: (draws, d), already scaled; shared by the anchors.
        neighbours: k of the distance, at most n.
        keep: perturbations kept for each anchor, at most the number of draws.
    """
    surroundings = Surroundings(latents, noise, neighbours)
    kept = [latents[row] + noise[surroundings.farthest(row, keep)] for row in anchors.tolist()]
    return Perturbations(torch.stack(kept), anchors)
