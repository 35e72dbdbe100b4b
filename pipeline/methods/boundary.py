"""Boundary outliers: Gaussian perturbations of the ID latents that lie farthest out.

OAL (arXiv 2406.16525). Outliers near the edge of ID teach more than far ones, and latents need no prompt and no labels
of anything unknown.
"""

from typing import TYPE_CHECKING

from pydantic import PositiveInt

from pipeline.methods import Draw, Input, Inputs, MethodSettings
from pipeline.settings.neighbourhood import NeighbourhoodSettings

if TYPE_CHECKING:
    from pipeline.artifacts.candidates import Candidates


class Settings(NeighbourhoodSettings, MethodSettings):
    """Where latents are perturbed, and how far."""

    strength = "sigma of the noise, in standard deviations of the latents"
    count: PositiveInt

    @property
    def reads(self) -> tuple[Input, ...]:
        return ("latents",)


def method(settings: Settings, inputs: Inputs) -> Draw:
    """Candidates from the sampler of the flattened latents."""
    from pipeline.artifacts.candidates import Candidates
    from pipeline.synthesis.boundary import Sampler

    latents = inputs.latents
    sampler = Sampler(latents.mean.flatten(1), latents.labels, settings, inputs.seed, "boundary")

    def draw(indices: range) -> "Candidates":
        found = sampler.sample(indices)
        raw_latents = found.vectors.view(-1, *latents.mean.shape[1:])
        return Candidates.of_latents(raw_latents, found.labels[:, None].repeat(1, 2), found.sigma, found.source)

    return draw
