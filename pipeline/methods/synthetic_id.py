"""Control `synthetic-id`: ID images that the diffusion model draws, a class at a time.

The sampler of `mixup` without the mixing, to tell what mixing adds; as further ID images in training they take away
"drawn by a diffusion model" as a sign of "unknown".
"""

from typing import TYPE_CHECKING

from pydantic import PositiveFloat, PositiveInt

from pipeline.methods import Control, Draw, Input, Inputs
from pipeline.settings.diffusion import SamplerName, SamplingSteps

if TYPE_CHECKING:
    from pipeline.artifacts.candidates import Candidates


class Settings(Control):
    """The sampler."""

    is_id = True
    strength = "1, for it has one parent"
    sampler: SamplerName
    steps: SamplingSteps
    guidance: PositiveFloat
    batch: PositiveInt

    @property
    def reads(self) -> tuple[Input, ...]:
        return ("diffusion", "autoencoder")


def method(settings: Settings, inputs: Inputs) -> Draw:
    """Images of the classes in turn."""
    import torch

    from pipeline.artifacts.candidates import Candidates
    from pipeline.synthesis import diffusion
    from pipeline.synthesis.autoencoder import to_raw_latents

    model = inputs.diffusion

    def draw(indices: range) -> "Candidates":
        labels = torch.tensor(indices) % model.config["classes"]
        predict = diffusion.conditioned(model, model.embedding(labels.to(model.device)), settings.guidance)
        latents = diffusion.sample(
            model, predict, settings.sampler, settings.steps, inputs.seed, "synthetic-id", indices
        )
        raw_latents = to_raw_latents(inputs.autoencoder, latents)
        parents, none = labels[:, None].repeat(1, 2), torch.full((len(indices),), -1)
        return Candidates.of_latents(raw_latents, parents, torch.ones(len(indices)), none)

    return draw
