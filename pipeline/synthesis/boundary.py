"""Boundary outliers: Gaussian perturbations of the ID vectors that lie farthest out (OAL, arXiv 2406.16525).

Per class, as in the released code's section "per-class k-NN sampling", with its indexing repaired: there the
draws that are kept belong to other anchors than the one they were ranked for, so that the choice is random.
The vectors are latents, or features of a classifier.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.runtime.console import track
from pipeline.runtime.errors import UserError
from pipeline.settings.neighbourhood import NeighbourhoodSettings
from pipeline.synthesis import randomness
from pipeline.synthesis.neighbours import kth_distance

FIRST = 8  # draws measured exactly to set the first bar
ROWS = 64  # draws counted at once: small enough for the processor's cache
ROUNDING = 1e-4  # of the largest distance: far above the rounding of a float32 product


def find_anchors(vectors: Tensor, neighbours: int, count: int) -> Tensor:
    """Rows of the `count` vectors of a class with the largest distance to their k-th other vector, farthest first.

    Args:
        vectors: (n, d), n > neighbours.
    """
    distances = kth_distance(vectors, vectors, neighbours + 1)  # the vector itself is the first
    return distances.argsort(descending=True, stable=True)[:count]


class Surroundings:
    """The vectors of a class and the draws that its anchors share, prepared for many anchors.

    With shared draws |a + e - x|^2 = |a - x|^2 + |e|^2 + 2 e.a - 2 e.x needs the large product e.x once, not once
    an anchor; so does the angle between a + e and x.

    Args:
        vectors: (n, d); of length 1 if `unit_sphere`.
        noise: (draws, d), already scaled.
        neighbours: k of the distance, at most n.
        unit_sphere: whether a perturbed vector is scaled back to length 1 before it is measured.
    """

    def __init__(self, vectors: Tensor, noise: Tensor, neighbours: int, unit_sphere: bool = False):
        centre = 0 if unit_sphere else vectors.double().mean(dim=0)
        self.vectors = vectors.double() - centre
        self.noise = noise.double()
        self.neighbours = neighbours
        self.unit_sphere = unit_sphere
        self.squares = self.vectors.square().sum(dim=1)
        self.lengths = self.noise.square().sum(dim=1)
        self.products = noise.float() @ self.vectors.T.float()  # (draws, n)

    def kth_squared(self, points: Tensor) -> Tensor:
        """Squared distance of each point (m, d) to its k-th nearest vector, (m,)."""
        if self.unit_sphere:
            points = functional.normalize(points)
        squared = torch.addmm(points.square().sum(dim=1)[:, None] + self.squares, points, self.vectors.T, alpha=-2)
        return squared.kthvalue(self.neighbours, dim=1).values

    def _tests(self, row: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What decides whether a draw e brings the anchor within squared distance b of a vector x.

        It does if e.x + `shift` of x >= `bias` of e - b * `slope` of e. The last is what rounding may add to b.
        """
        anchor = self.vectors[row]
        if self.unit_sphere:
            lengths = (anchor + self.noise).norm(dim=1)
            return self.vectors @ anchor, lengths, lengths / 2, torch.tensor(4 * ROUNDING)
        to_vectors = self.squares + self.squares[row] - 2 * (self.vectors @ anchor)  # |a - x|^2
        offsets = self.lengths + 2 * (self.noise @ anchor)  # |e|^2 + 2 e.a
        margin = ROUNDING * (to_vectors.max() + offsets.abs().max())
        return -to_vectors / 2, offsets / 2, torch.full_like(offsets, 0.5), margin

    def farthest(self, row: int, keep: int) -> Tensor:
        """The `keep` draws that carry the vector in `row` farthest from the class, farthest first.

        Far means the largest distance to the k-th nearest vector. Most draws are ruled out by counting in
        float32: one with k vectors within the bar, the distance of the `keep`-th best so far, less a margin for
        rounding, cannot be among the best. The others are measured exactly.
        """
        shift, bias, slope, margin = self._tests(row)
        shift = shift.float()
        order = bias.argsort(descending=True)  # long draws first: they set a bar that few others pass
        best, distances = order[:0], bias[:0]
        for chunk in (order[: max(keep, FIRST)], *order[max(keep, FIRST) :].split(ROWS)):
            if len(best) == keep:
                needed = (bias[chunk] - (distances[-1] - margin) * slope[chunk]).float()
                inside = (self.products[chunk] + shift >= needed[:, None]).sum(dim=1)
                chunk = chunk[inside < self.neighbours]
            found = torch.cat([distances, self.kth_squared(self.vectors[row] + self.noise[chunk])])
            distances, kept = found.sort(descending=True, stable=True)
            best, distances = torch.cat([best, chunk])[kept[:keep]], distances[:keep]
        return best


def perturb(vectors: Tensor, anchors: Tensor, noise: Tensor, neighbours: int, keep: int, unit_sphere: bool) -> Tensor:
    """Perturb each anchor of a class by every draw and keep its own farthest.

    Args:
        vectors: (n, d), of one class; of length 1 if `unit_sphere`.
        anchors: rows of the anchors, from `find_anchors`.
        noise: (draws, d), already scaled; shared by the anchors.
        neighbours: k of the distance, at most n.
        keep: perturbations kept for each anchor, at most the number of draws.

    Returns:
        (anchors, keep, d), farthest first; of length 1 if `unit_sphere`.
    """
    surroundings = Surroundings(vectors, noise, neighbours, unit_sphere)
    kept = torch.stack([vectors[row] + noise[surroundings.farthest(row, keep)] for row in anchors.tolist()])
    return functional.normalize(kept, dim=-1) if unit_sphere else kept


@dataclass(frozen=True)
class Outliers:
    """n outliers: vectors float32 (n, d), labels int64 (n,), sigma float32 (n,), and their anchors' rows (n,)."""

    vectors: Tensor
    labels: Tensor
    sigma: Tensor
    source: Tensor


class Sampler:
    """Endless boundary outliers of every class and sigma; outlier i depends on (seed, stream, i) alone.

    They come in rounds with fresh draws; any prefix is balanced over classes, sigmas and anchors.
    Sigma counts in standard deviations of each dimension over all vectors, so that one value means the same for
    any autoencoder; on the unit sphere in their root mean square over the dimensions. There the outliers are
    scaled back to their anchor's length.

    Args:
        vectors: (n, d), of all classes.
        labels: int64 (n,).
        section: of params.yaml, for messages, and the name of the random stream.

    Raises:
        UserError: a class is too small for its neighbours or anchors; names the class, its size and the parameter.
    """

    def __init__(self, vectors: Tensor, labels: Tensor, settings: NeighbourhoodSettings, seed: int, section: str):
        self.settings, self.seed, self.section = settings, seed, section
        _check(labels, settings, section)
        # Apple's GPUs have no float64
        self.vectors = vectors.to("cuda" if torch.cuda.is_available() else "cpu")
        self.lengths = self.vectors.norm(dim=1, keepdim=True)
        if settings.unit_sphere:
            self.vectors = functional.normalize(self.vectors)
        scale = self.vectors.std(dim=0)
        self.scale = scale.square().mean().sqrt().expand_as(scale) if settings.unit_sphere else scale
        classes = range(int(labels.max()) + 1)
        self.members = [torch.nonzero(labels == label).flatten().to(self.vectors.device) for label in classes]
        self.anchors = [
            find_anchors(self.vectors[rows], settings.neighbours, settings.anchors)
            for rows in track(self.members, f"{section}: anchors", len(self.members))
        ]
        self.blocks = [(label, sigma) for sigma in settings.sigmas for label in classes]
        self.round = len(self.blocks) * settings.anchors * settings.kept_per_anchor
        self._of_round = lru_cache(maxsize=1)(self._draw_round)  # callers may ask for it a few at a time

    def sample(self, indices: range) -> Outliers:
        """The outliers of consecutive indices."""
        first = indices.start // self.round
        found = [self._of_round(number) for number in range(first, -(-indices.stop // self.round))]
        wanted = slice(indices.start - first * self.round, indices.stop - first * self.round)
        return Outliers(*(torch.cat(parts)[wanted] for parts in zip(*found, strict=True)))

    def _draw_round(self, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All outliers of one round, ordered by rank, then anchor, then block."""
        found, sources = [], []
        for position, (label, sigma) in enumerate(self.blocks):
            rows, anchors = self.members[label], self.anchors[label]
            shape = (self.settings.perturbations, self.vectors.shape[1])
            noise = randomness.normal(self.seed, self.section, [number * len(self.blocks) + position], shape)[0]
            noise = sigma * self.scale * noise.to(self.vectors.device)
            kept = perturb(
                self.vectors[rows], anchors, noise, self.settings.neighbours, self.settings.kept_per_anchor,
                self.settings.unit_sphere,
            )  # fmt: skip
            source = rows[anchors]
            found.append(kept * self.lengths[source][:, None] if self.settings.unit_sphere else kept)
            sources.append(source)
        vectors = torch.stack(found).permute(2, 1, 0, 3).reshape(self.round, -1).cpu()  # from (block, anchor, rank, d)
        source = torch.stack(sources).T.flatten().repeat(self.settings.kept_per_anchor).cpu()
        labels, sigmas = zip(*self.blocks, strict=True)
        repeats = self.round // len(self.blocks)
        return vectors, torch.tensor(labels).repeat(repeats), torch.tensor(sigmas).repeat(repeats), source


def _check(labels: Tensor, settings: NeighbourhoodSettings, section: str) -> None:
    for label, size in enumerate(labels.bincount().tolist()):
        for name, wanted in (("neighbours", settings.neighbours + 1), ("anchors", settings.anchors)):
            if size < wanted:
                raise UserError(
                    f"class {label}: {size} training images, expected at least {wanted} for sample.{section}.{name} = "
                    f"{getattr(settings, name)}; lower it in params.yaml or add images"
                )
