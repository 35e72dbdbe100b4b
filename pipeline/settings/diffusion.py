"""Section `diffusion`, and what sampling from a diffusion model takes."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from pipeline.settings.section import Decay, Section, Share, Width

TRAIN_STEPS = 1000  # T of the forward process (DDPM, Ho et al. 2020)
SamplingSteps = Annotated[int, Field(ge=1, le=TRAIN_STEPS)]
Schedule = Literal["cosine", "linear"]
Prediction = Literal["velocity", "epsilon"]
SamplerName = Literal["ddpm", "ddim", "dpm-solver++"]
Clip = Annotated[float, Field(gt=0)] | None  # size of raw latents; 1 with the pixels of autoencoder.source: pixels
MixupMode = Literal["sum", "mean", "slerp", "score"]


def check_clip(sampler: SamplerName, clip: float | None) -> None:
    """Refuse to clip what a sampler would not.

    Raises:
        ValueError: the sampler is another one than ddpm.
    """
    if clip is not None and sampler != "ddpm":
        raise ValueError(f"clip is {clip} and sampler {sampler}; expected null, or sampler ddpm")


class DiffusionSettings(Section):
    """The diffusion model and its training.

    Attributes:
        feature_conditioning: share of the items conditioned on the teacher's features in place of the class.
        condition_dropout: share of the others conditioned on nothing, for guidance.
    """

    widths: Annotated[list[Width], Field(min_length=1)]
    schedule: Schedule
    prediction: Prediction
    feature_conditioning: Share
    condition_dropout: Share
    steps: PositiveInt
    batch: PositiveInt
    learning_rate: PositiveFloat
    ema: Decay
    checkpoint_every: PositiveInt
