"""Label mixup: latents that a diffusion model draws of two classes at once (arXiv 2405.00631).

A mixture looks like the ID data and is none of its classes.
"""

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.methods import Draw, Input, Inputs, MethodSettings
from pipeline.settings.diffusion import Clip, MixupMode, SamplerName, SamplingSteps, check_clip
from pipeline.settings.section import Share

if TYPE_CHECKING:
    from pipeline.artifacts.candidates import Candidates


class Settings(MethodSettings):
    """How two classes are mixed, and the sampler; `ratio` bounds the share of the first class."""

    strength = "share of parent a, 0 to 1"
    count: PositiveInt
    mode: MixupMode
    ratio: Annotated[list[Share], Field(min_length=2, max_length=2)]
    sampler: SamplerName
    steps: SamplingSteps
    guidance: PositiveFloat
    clip: Clip
    batch: PositiveInt

    @property
    def reads(self) -> tuple[Input, ...]:
        return ("diffusion", "autoencoder")

    @model_validator(mode="after")
    def _ratio_is_a_range_and_clip_is_used(self) -> Self:
        if self.ratio[0] > self.ratio[1]:
            raise ValueError(f"ratio is {self.ratio}, expected [low, high] with low <= high")
        check_clip(self.sampler, self.clip)
        return self


def method(settings: Settings, inputs: Inputs) -> Draw:
    """Mixtures of pairs of different classes."""
    import torch

    from pipeline.artifacts.candidates import Candidates
    from pipeline.synthesis import diffusion, mixing
    from pipeline.synthesis.autoencoder import latent_range, to_raw_latents

    model, clip = inputs.diffusion, latent_range(inputs.autoencoder, settings.clip)

    def draw(indices: range) -> "Candidates":
        parents, share = mixing.draw_parents(inputs.seed, indices, model.config["classes"], *settings.ratio)
        predict = mixing.predictor(
            model, parents.to(model.device), share.to(model.device), settings.mode, settings.guidance
        )
        latents = diffusion.sample(
            model, predict, settings.sampler, settings.steps, inputs.seed, "mixup", indices, clip
        )
        raw_latents = to_raw_latents(inputs.autoencoder, latents)
        return Candidates.of_latents(raw_latents, parents, share, torch.full((len(indices),), -1))

    return draw
