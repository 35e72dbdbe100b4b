"""Sample label mixtures: latents of two classes at once.

Reads: data/models/{diffusion,autoencoder}.
Writes: data/candidates/{mixup,synthetic-id}.arrow.
Why: arXiv 2405.00631. A mixture looks like the ID data and is none of its classes. `synthetic-id` mixes each
class with itself: the same sampler without the method, to tell what mixing adds.
"""

from typing import TYPE_CHECKING, Annotated, Self

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from pipeline.artifacts import models
from pipeline.artifacts.candidates import Candidates, Method, leave_out, produce
from pipeline.runtime.layout import MODELS
from pipeline.runtime.processes import pick_device
from pipeline.runtime.resumable import fingerprint
from pipeline.settings import params
from pipeline.synthesis import diffusion, mixing
from pipeline.synthesis.autoencoder import AnyAutoencoder, Autoencoder, to_raw_latents
from pipeline.synthesis.diffusion import SamplerName, SamplingSteps

if TYPE_CHECKING:
    from pipeline.synthesis.unet import ConditionalUNet


class Params(params.Section):
    count: NonNegativeInt
    synthetic_id: PositiveInt
    mode: mixing.Mode
    ratio: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=2, max_length=2)]
    sampler: SamplerName
    steps: SamplingSteps
    guidance: PositiveFloat
    batch: PositiveInt

    @model_validator(mode="after")
    def _ratio_is_a_range(self) -> Self:
        if self.ratio[0] > self.ratio[1]:
            raise ValueError(f"ratio is {self.ratio}, expected [low, high] with low <= high")
        return self


def draw(
    model: "ConditionalUNet", indices: range, parents: Tensor, share: Tensor, settings: Params, seed: int, stream: str
) -> Tensor:
    """Latents float32 (n, C, h, w) on the CPU of mixtures of `parents` (n, 2); i depends on (seed, stream, i) alone."""
    predict = mixing.predictor(
        model, parents.to(model.device), share.to(model.device), settings.mode, settings.guidance
    )
    return diffusion.sample(model, predict, settings.sampler, settings.steps, seed, stream, indices)


def mixtures(model: "ConditionalUNet", autoencoder: Autoencoder, settings: Params, seed: int) -> Method:
    """The method: pairs of different classes."""

    def sample(indices: range) -> Candidates:
        parents, share = mixing.draw_parents(seed, indices, model.config["classes"], *settings.ratio)
        latents = draw(model, indices, parents, share, settings, seed, "mixup")
        return Candidates(to_raw_latents(autoencoder, latents), parents, share, torch.full((len(indices),), -1))

    return sample


def single_classes(model: "ConditionalUNet", autoencoder: Autoencoder, settings: Params, seed: int) -> Method:
    """The control: each class with itself."""
    plain = settings.model_copy(update={"mode": "mean"})  # `sum` would double the class's embedding

    def sample(indices: range) -> Candidates:
        parents = (torch.tensor(indices) % model.config["classes"])[:, None].repeat(1, 2)
        share = torch.ones(len(indices))
        latents = draw(model, indices, parents, share, plain, seed, "synthetic-id")
        return Candidates(to_raw_latents(autoencoder, latents), parents, share, torch.full((len(indices),), -1))

    return sample


def main() -> None:
    from pipeline.synthesis.unet import ConditionalUNet

    settings, seed = params.read("mixup", Params), params.read("seed", int)
    autoencoder = models.load(AnyAutoencoder, MODELS / "autoencoder")
    model = models.load(ConditionalUNet, MODELS / "diffusion").to(pick_device())
    weights = fingerprint(MODELS / "diffusion", MODELS / "autoencoder")
    identity = {"settings": settings.model_dump(), "seed": seed, "models": weights}
    for name, method, count in (
        ("mixup", mixtures, settings.count),
        ("synthetic-id", single_classes, settings.synthetic_id),
    ):
        if count:
            produce(name, method(model, autoencoder, settings, seed), count, settings.batch, identity)
        else:
            leave_out(name)
