"""Sample label mixtures: latents of two classes at once.

Reads: data/models/{diffusion,autoencoder}.
Writes: data/candidates/{mixup,synthetic-id}.arrow.
Why: arXiv 2405.00631. A mixture looks like the ID data and is none of its classes. `synthetic-id` mixes each
class with itself: the same sampler without the method, to tell what mixing adds.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from accelerate import Accelerator
from diffusers import AutoModel
from pydantic import Field, PositiveInt
from torch import Tensor

from pipeline import params
from pipeline.artifacts import candidates, models
from pipeline.artifacts.candidates import Candidates
from pipeline.artifacts.files import replacing, sha256
from pipeline.artifacts.layout import CANDIDATES, MODELS
from pipeline.artifacts.parts import resumable
from pipeline.console import say, track
from pipeline.errors import UserError
from pipeline.synthesis import mixing
from pipeline.synthesis.autoencoder import to_raw_latents
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


@dataclass(frozen=True)
class Request:
    """What to sample: n mixtures of a stream, parents int64 (n, 2) and parent a's shares float32 (n,)."""

    stream: str
    mode: mixing.Mode
    parents: Tensor
    share: Tensor


def requests(settings: Params, classes: int, seed: int) -> list[Request]:
    """The mixtures, and the un-mixed control: each class with itself."""
    low, high = settings.ratio
    parents, share = mixing.draw_parents(seed, range(settings.count), classes, low, high)
    own = (torch.arange(settings.synthetic_id) % classes)[:, None].repeat(1, 2)
    return [
        Request("mixup", settings.mode, parents, share),
        # a class mixed with itself is that class under `mean` alone: `sum` would double its embedding
        Request("synthetic-id", "mean", own, torch.ones(settings.synthetic_id)),
    ]


def sample(model: ConditionalUNet, request: Request, part: int, settings: Params, seed: int) -> Tensor:
    """Latents float32 (n, C, h, w) on the CPU of one part, `settings.batch` mixtures; i depends on (seed, i) alone."""
    rows = slice(part * settings.batch, (part + 1) * settings.batch)
    parents, share = request.parents[rows].to(model.device), request.share[rows].to(model.device)
    shape = (model.config["channels"], model.config["size"], model.config["size"])
    noise = normal(seed, request.stream, range(rows.start, rows.start + len(parents)), shape).to(model.device)
    predict = mixing.predictor(model, parents, share, request.mode)
    return denoise(predict, noise, sampler(settings.sampler, noise_schedule()), settings.steps).cpu()


def sample_all(model: ConditionalUNet, request: Request, settings: Params, seed: int, identity: dict) -> Tensor:
    """All latents of a request; a killed run goes on at its first unfinished part."""
    count = -(-len(request.parents) // settings.batch)
    parts = resumable(
        CANDIDATES / f".{request.stream}.parts", identity, count, lambda i: sample(model, request, i, settings, seed)
    )
    return torch.cat(list(track(parts, request.stream, count)))


def main() -> None:
    settings, seed = params.read("mixup", Params), params.read("seed", int)
    if settings.ratio[0] > settings.ratio[1]:
        raise UserError(f"params.yaml: mixup.ratio is {settings.ratio}, expected [low, high] with low <= high")
    autoencoder = models.load(AutoModel, MODELS / "autoencoder")
    model = models.load(ConditionalUNet, MODELS / "diffusion").to(Accelerator().device)
    weights = [sha256(path) for path in sorted((MODELS / "diffusion").iterdir())]
    identity = {"settings": settings.model_dump(), "seed": seed, "model": weights}
    for request in requests(settings, model.config["classes"], seed):
        latents = sample_all(model, request, settings, seed, identity)
        raw_latents = to_raw_latents(autoencoder, latents)
        sampled = Candidates(raw_latents, request.parents, request.share, [""] * len(latents))
        with replacing(CANDIDATES / f"{request.stream}.arrow") as path:
            candidates.write(path, sampled)
        say(f"mixup: {len(sampled)} {request.stream} candidates")
