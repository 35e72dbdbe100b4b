"""Train a class-conditional DDPM of the ID latents.

Reads: data/latents/train.arrow, data/models/autoencoder (its scaling alone).
Writes: data/models/diffusion (config.json, safetensors: the moving average of the weights).
Why: label mixup asks this model for images of two classes at once, which no ID image shows.
"""

from typing import Annotated

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import AutoModel
from diffusers.training_utils import EMAModel
from pydantic import Field, PositiveFloat, PositiveInt

from pipeline import params
from pipeline.artifacts import latents, models
from pipeline.artifacts.files import replacing
from pipeline.artifacts.latents import Latents
from pipeline.artifacts.layout import LATENTS, MODELS
from pipeline.console import say
from pipeline.learning.loop import fit
from pipeline.synthesis import diffusion
from pipeline.synthesis.autoencoder import Autoencoder, to_latents
from pipeline.synthesis.diffusion import ConditionalUNet


class Params(params.Section):
    widths: Annotated[list[Annotated[int, Field(multiple_of=8)]], Field(min_length=1)]
    steps: PositiveInt
    batch: PositiveInt
    learning_rate: PositiveFloat
    ema: Annotated[float, Field(ge=0, lt=1)]


def train(encoded: Latents, autoencoder: Autoencoder, settings: Params, seed: int) -> tuple[ConditionalUNet, float]:
    """Train the model; its averaged weights, and the mean loss of the last quarter of training."""
    set_seed(seed)
    device = Accelerator().device
    mean = to_latents(autoencoder, encoded.mean).to(device)
    std = (encoded.std * autoencoder.config.scaling_factor).to(device)
    model = ConditionalUNet(int(encoded.labels.max()) + 1, mean.shape[1], mean.shape[-1], settings.widths).to(device)
    average = EMAModel(model.parameters(), decay=settings.ema)
    history = fit(
        model,
        torch.optim.AdamW(model.parameters(), lr=settings.learning_rate),
        diffusion.latent_batches(mean, std, encoded.labels.to(device), settings.batch, seed),
        diffusion.objective(diffusion.noise_schedule(), seed),
        steps=settings.steps,
        description="diffusion",
        warmup=settings.steps // 20,
        clip=1.0,
        after_step=lambda trained: average.step(trained.parameters()),
    )
    average.copy_to(model.parameters())
    late = [row["velocity"] for row in history[-max(1, len(history) // 4) :]]
    return model, sum(late) / len(late)


def main() -> None:
    settings, seed = params.read("diffusion", Params), params.read("seed", int)
    autoencoder = models.load(AutoModel, MODELS / "autoencoder")
    model, loss = train(latents.load(LATENTS / "train.arrow"), autoencoder, settings, seed)
    with replacing(MODELS / "diffusion") as folder:
        model.save_pretrained(folder)
    say(f"diffusion: loss {loss:.3f} over the last quarter")
