"""Get the autoencoder: Stable Diffusion's, a small one, or none.

Reads: data/images/{train,val}.parquet.
Writes: data/models/autoencoder (config.json, safetensors; origin.json of one that others trained).
Why: outliers live in its latent space; one trained on the ID images does where nothing can be downloaded.
"""

from itertools import islice
from typing import TYPE_CHECKING

import torch
from accelerate.utils import set_seed
from torch import Tensor

from pipeline.artifacts import images, models
from pipeline.artifacts.provenance import provenance
from pipeline.artifacts.revisions import check_revision
from pipeline.runtime.console import log
from pipeline.runtime.files import atomic_write, write_json
from pipeline.runtime.layout import IMAGES, MODELS
from pipeline.runtime.processes import pick_device
from pipeline.settings import params
from pipeline.settings.autoencoder import MADE_HERE, AutoencoderSettings
from pipeline.settings.encode import InferenceSettings
from pipeline.synthesis import autoencoder as space
from pipeline.training.loop import fit

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


def train(pixels: Tensor, settings: AutoencoderSettings, seed: int) -> "AutoencoderKL":
    """Train a small autoencoder whose `scaling_factor` gives the training latents unit variance.

    Args:
        pixels: uint8, (n, channels, size, size).
    """
    set_seed(seed)
    device = pick_device()
    model = space.small(pixels.shape[1], settings.size, settings.widths, settings.latent_channels).to(device)
    fit(
        model,
        torch.optim.AdamW(model.parameters(), lr=settings.learning_rate),
        lambda start: islice(space.image_batches(pixels.to(device), settings.size, settings.batch, seed), start, None),
        space.reconstruction_objective(settings.kl_weight),
        steps=settings.steps,
        description="autoencoder",
        clip=1.0,
    )
    mean, _ = space.encode(model, pixels, settings.size, InferenceSettings(batch=settings.batch, precision="float32"))
    model.register_to_config(scaling_factor=float(1 / mean.std()))
    return model


def psnr(autoencoder: space.Autoencoder, pixels: Tensor, settings: AutoencoderSettings) -> float:
    """Peak signal-to-noise ratio of the reconstruction at the images' own size, in dB."""
    running = InferenceSettings(batch=settings.batch, precision="float32")
    raw_latents, _ = space.encode(autoencoder, pixels, settings.size, running)
    decoded = space.decode(autoencoder, raw_latents, pixels.shape[-1], running)
    error = (decoded.float() - pixels.float()).square().mean()
    return float(10 * torch.log10(255**2 / error))


def main() -> None:
    settings, seed = params.read("autoencoder", AutoencoderSettings), params.read("seed", int)
    train_set, val_set = images.load_split(IMAGES, "train"), images.load_split(IMAGES, "val")
    if settings.source == "train":
        model = train(train_set.pixels, settings, seed)
    elif settings.source == "pixels":
        from pipeline.synthesis.pixel_space import PixelSpace

        model = PixelSpace(scaling_factor=float(1 / space.normalise(train_set.pixels, settings.size).std()))
    else:
        check_revision(settings.source, settings.revision)
        model = models.load(space.AnyAutoencoder, settings.source, revision=settings.revision)
    with atomic_write(MODELS / "autoencoder") as folder:
        model.save_pretrained(folder)
        if settings.source not in MADE_HERE:
            write_json(folder / "origin.json", provenance(settings.source, settings.revision))
    log(f"autoencoder: {psnr(model, val_set.pixels, settings):.1f} dB on validation images")
