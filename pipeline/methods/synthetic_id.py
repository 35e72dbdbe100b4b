"""Control `synthetic-id`: ID images that the diffusion model draws, a class at a time.

The sampler of `mixup` without the mixing, to tell what mixing adds; as further ID images in training they take away
"drawn by a diffusion model" as a sign of "unknown".
"""

from typing import TYPE_CHECKING, Self

from pydantic import PositiveFloat, PositiveInt, model_validator

from pipeline.methods import Control, Draw, Input, Inputs
from pipeline.settings.diffusion import Clip, SamplerName, SamplingSteps, check_clip

if TYPE_CHECKING:
    from pipeline.artifacts.candidates import Candidates


class Settings(Control):
    """The sampler."""

    is_id = True
    strength = "1, for it has one parent"
    sampler: SamplerName
    steps: SamplingSteps
    guidance: PositiveFloat
    clip: Clip
    batch: PositiveInt

    @property
    def reads(self) -> tuple[Input, ...]:
        return ("diffusion", "autoencoder")

    @model_validator(mode="after")
    def _clip_is_used(self) -> Self:
        check_clip(self.sampler, self.clip)
        return self


def method(settings: Settings, inputs: Inputs) -> Draw:
    """Images of the classes in turn."""
    import torch

    from pipeline.artifacts.candidates import Candidates
    from pipeline.synthesis import diffusion
    from pipeline.synthesis.autoencoder import latent_range, to_raw_latents

    model, clip = inputs.diffusion, latent_range(inputs.autoencoder, settings.clip)

    def draw(indices: range) -> "Candidates":
        labels = torch.tensor(indices) % model.config["classes"]
        predict = diffusion.conditioned(model, model.embedding(labels.to(model.device)), settings.guidance)
        latents = diffusion.sample(
            model, predict, settings.sampler, settings.steps, inputs.seed, "synthetic-id", indices, clip
        )
        raw_latents = to_raw_latents(inputs.autoencoder, latents)
        parents, none = labels[:, None].repeat(1, 2), torch.full((len(indices),), -1)
        return Candidates.of_latents(raw_latents, parents, torch.ones(len(indices)), none)

    return draw
