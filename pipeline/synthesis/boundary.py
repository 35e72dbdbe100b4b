"""Boundary outliers: Gaussian perturbations of the ID latents that lie farthest out (OAL, arXiv 2406.16525).

Per class, as in the released code's section "per-class k-NN sampling", with its indexing repaired: there the
draws that are kept belong to other anchors than the one they were ranked for, so that the choice is random.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.synthesis.neighbours import CHUNK_ELEMENTS, kth_distance


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


def farthest(
    latents: Tensor, anchor: Tensor, noise: Tensor, noise_products: Tensor, neighbours: int, keep: int
) -> Tensor:
    """Rows of the `keep` draws whose perturbed anchor lies farthest from the class, farthest first.

    Far means the largest distance to the k-th nearest latent. All anchors of a class share the draws, so
    that |a + e - x|^2 = |a - x|^2 + |e|^2 + 2 e.a - 2 e.x needs the large product e.x once, not once an anchor.

    Args:
        latents: (n, d), of the class.
        anchor: (d,).
        noise: (draws, d).
        noise_products: noise @ latents.T, (draws, n).
    """
    to_latents = (anchor - latents).square().sum(dim=1)  # (n,)
    of_draw = noise.square().sum(dim=1) + 2 * noise @ anchor  # (draws,)
    rows = max(1, CHUNK_ELEMENTS // len(latents))
    kth = [
        (to_latents + own[:, None] - 2 * products).kthvalue(neighbours, dim=1).values
        for own, products in zip(of_draw.split(rows), noise_products.split(rows), strict=True)
    ]
    return torch.cat(kth).argsort(descending=True, stable=True)[:keep]


def perturb(latents: Tensor, anchors: Tensor, noise: Tensor, neighbours: int, keep: int) -> Perturbations:
    """Perturb each anchor of a class by every draw and keep its own farthest.

    Args:
        latents: (n, d), of one class.
        anchors: rows of the anchors, from `find_anchors`.
        noise: (draws, d), already scaled; shared by the anchors.
        neighbours: k of the distance, at most n.
        keep: perturbations kept for each anchor, at most the number of draws.
    """
    centred = latents.double() - latents.double().mean(dim=0)
    draws = noise.double()
    products = draws @ centred.T
    chosen = [farthest(centred, centred[row], draws, products, neighbours, keep) for row in anchors]
    kept = torch.stack([latents[row] + noise[choice] for row, choice in zip(anchors, chosen, strict=True)])
    return Perturbations(kept, anchors)
