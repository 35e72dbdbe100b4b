"""Sample boundary outliers around the outermost ID latents.

Reads: data/latents/train.arrow.
Writes: data/candidates/boundary.arrow.
Why: paper OAL (arXiv 2406.16525). Outliers near the edge of ID teach more than far ones, and latents need no
prompt and no labels of anything unknown.
"""

from collections.abc import Iterator
from itertools import count, islice
from typing import Annotated

import torch
from accelerate import Accelerator
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from pipeline import params
from pipeline.artifacts import candidates, latents
from pipeline.artifacts.candidates import Candidates
from pipeline.artifacts.files import replacing
from pipeline.artifacts.latents import Latents
from pipeline.artifacts.layout import CANDIDATES, LATENTS
from pipeline.console import say, track
from pipeline.errors import UserError
from pipeline.synthesis import randomness
from pipeline.synthesis.boundary import Perturbations, find_anchors, perturb


class Params(params.Section):
    count: PositiveInt
    neighbours: PositiveInt
    anchors: PositiveInt
    draws: PositiveInt
    keep: PositiveInt
    sigmas: Annotated[list[PositiveFloat], Field(min_length=1)]


def check(encoded: Latents, settings: Params) -> None:
    """Refuse a class too small for its neighbours or anchors.

    Raises:
        UserError: names the class, its size and the parameter.
    """
    for label, size in enumerate(encoded.labels.bincount().tolist()):
        if size <= settings.neighbours:
            raise UserError(
                f"class {label}: {size} training images, expected more than boundary.neighbours = "
                f"{settings.neighbours}; lower it in params.yaml or add images"
            )
        if size < settings.anchors:
            raise UserError(
                f"class {label}: {size} training images, expected at least boundary.anchors = "
                f"{settings.anchors}; lower it in params.yaml or add images"
            )
    if settings.keep > settings.draws:
        raise UserError(f"params.yaml: boundary.keep is {settings.keep}, expected at most draws = {settings.draws}")


def rounds(encoded: Latents, settings: Params, seed: int) -> Iterator[list[tuple[int, float, Perturbations]]]:
    """Endless rounds with fresh draws; each gives (class, sigma, perturbations) for every class and sigma.

    Sigma counts in standard deviations of each latent dimension over the training set, so that one value
    means the same for any autoencoder.
    """
    device = Accelerator().device if torch.cuda.is_available() else "cpu"  # Apple's GPUs have no float64
    flat = encoded.mean.flatten(1).to(device)
    scale = flat.std(dim=0)
    members = [flat[encoded.labels.to(device) == label] for label in range(int(encoded.labels.max()) + 1)]
    anchors = [find_anchors(own, settings.neighbours, settings.anchors) for own in members]
    blocks = [(label, sigma) for sigma in settings.sigmas for label in range(len(members))]
    for number in count():
        found = []
        for position, (label, sigma) in enumerate(blocks):
            draw = number * len(blocks) + position
            noise = randomness.normal(seed, "boundary", [draw], (settings.draws, flat.shape[1]))[0].to(device)
            kept = perturb(members[label], anchors[label], sigma * scale * noise, settings.neighbours, settings.keep)
            found.append((label, sigma, kept))
        yield found


def rows(encoded: Latents, settings: Params, seed: int) -> Iterator[tuple[Tensor, int, float, str]]:
    """Endless (latent, class, sigma, source key), in an order in which every prefix is balanced."""
    keys = [[key for key, own in zip(encoded.keys, encoded.labels.tolist(), strict=True) if own == label]
            for label in range(int(encoded.labels.max()) + 1)]  # fmt: skip
    for found in rounds(encoded, settings, seed):
        for rank in range(settings.keep):
            for anchor in range(settings.anchors):
                for label, sigma, kept in found:
                    yield kept.latents[anchor, rank].cpu(), label, sigma, keys[label][int(kept.anchors[anchor])]


def sample(encoded: Latents, settings: Params, seed: int) -> Candidates:
    """The first `settings.count` boundary candidates; a larger count only appends."""
    check(encoded, settings)
    taken = track(islice(rows(encoded, settings, seed), settings.count), "boundary", settings.count)
    vectors, labels, sigmas, sources = zip(*taken, strict=True)
    return Candidates(
        raw_latents=torch.stack(vectors).view(-1, *encoded.mean.shape[1:]),
        parents=torch.tensor(labels)[:, None].repeat(1, 2),
        strength=torch.tensor(sigmas),
        source=list(sources),
    )


def main() -> None:
    settings, seed = params.read("boundary", Params), params.read("seed", int)
    sampled = sample(latents.load(LATENTS / "train.arrow"), settings, seed)
    with replacing(CANDIDATES / "boundary.arrow") as path:
        candidates.write(path, sampled)
    say(f"boundary: {len(sampled)} candidates at sigma {', '.join(map(str, settings.sigmas))}")
