"""Sample label mixtures: latents of two classes at once.

Reads: data/models/{diffusion,autoencoder}.
Writes: data/candidates/{mixup,synthetic-id}.arrow.
Why: arXiv 2405.00631. A mixture looks like the ID data and is none of its classes. `synthetic-id` mixes each
class with itself: the same sampler without the method, to tell what mixing adds.
"""

from typing import Annotated, Literal

import torch
from accelerate import Accelerator
from diffusers import AutoModel
from pydantic import Field, PositiveInt
from torch import Tensor

from pipeline import params
from pipeline.artifacts import candidates, models
from pipeline.artifacts.candidates import Candidates
from pipeline.artifacts.files import replacing
from pipeline.artifacts.layout import CANDIDATES, MODELS
from pipeline.console import say, track
from pipeline.errors import UserError
from pipeline.synthesis import mixing
from pipeline.synthesis.autoencoder import Autoencoder, to_raw_latents
from pipeline.synthesis.diffusion import ConditionalUNet, denoise, noise_schedule, sampler
from pipeline.synthesis.randomness import normal


class Params(params.Section):
    count: PositiveInt
    synthetic_id: PositiveInt
    mode: mixing.Mode
    ratio: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=2, max_length=2)]
    sampler: Literal["dpm-solver++", "ddim"]
    steps: PositiveInt
    batch: PositiveInt


def sample(model: ConditionalUNet, parents: Tensor, share: Tensor, stream: str, settings: Params, seed: int) -> Tensor:
    """Latents float32 (n, C, h, w) of n mixtures on the CPU; mixture i depends on (seed, i) alone."""
    shape = (model.config["channels"], model.config["size"], model.config["size"])
    scheduler = sampler(settings.sampler, noise_schedule())
    starts = range(0, len(parents), settings.batch)
    sampled = []
    for start in track(starts, stream, len(starts)):
        part = slice(start, start + settings.batch)
        noise = normal(seed, stream, range(start, start + len(parents[part])), shape).to(model.device)
        predict = mixing.predictor(model, parents[part].to(model.device), share[part].to(model.device), settings.mode)
        sampled.append(denoise(predict, noise, scheduler, settings.steps).cpu())
    return torch.cat(sampled)


def draw(model: ConditionalUNet, autoencoder: Autoencoder, stream: str, settings: Params, seed: int) -> Candidates:
    """Candidates of one stream: `mixup` of two classes, or `synthetic-id` of each class with itself."""
    classes, (low, high) = model.config["classes"], settings.ratio
    if stream == "mixup":
        parents, share = mixing.draw_parents(seed, range(settings.count), classes, low, high)
    else:
        parents = (torch.arange(settings.synthetic_id) % classes)[:, None].repeat(1, 2)
        share = torch.ones(settings.synthetic_id)
        # a class mixed with itself is that class under `mean` alone: `sum` would double its embedding
        settings = settings.model_copy(update={"mode": "mean"})
    latents = sample(model, parents, share, stream, settings, seed)
    return Candidates(to_raw_latents(autoencoder, latents), parents, share, [""] * len(parents))


def main() -> None:
    settings, seed = params.read("mixup", Params), params.read("seed", int)
    if settings.ratio[0] > settings.ratio[1]:
        raise UserError(f"params.yaml: mixup.ratio is {settings.ratio}, expected [low, high] with low <= high")
    autoencoder = models.load(AutoModel, MODELS / "autoencoder")
    model = models.load(ConditionalUNet, MODELS / "diffusion").to(Accelerator().device)
    for stream in ("mixup", "synthetic-id"):
        sampled = draw(model, autoencoder, stream, settings, seed)
        with replacing(CANDIDATES / f"{stream}.arrow") as path:
            candidates.write(path, sampled)
        say(f"mixup: {len(sampled)} {stream} candidates")
