"""Train a conditional DDPM of the ID latents.

Reads: data/latents/train.arrow, data/images/train.parquet, data/models/teacher, data/models/autoencoder (its
scaling alone).
Writes: data/models/diffusion (config.json, safetensors: the moving average of the weights).
Why: `mixup` asks this model for images of two classes at once, `embedding` for images of features that no ID image
has. So it learns from classes and from the teacher's features in turn. Where no method draws from it, nothing is
trained.
"""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import torch
from accelerate.utils import set_seed

from pipeline.artifacts import images, latents, models
from pipeline.classifier.networks import Classifier, features_of
from pipeline.runtime.console import log
from pipeline.runtime.files import atomic_write
from pipeline.runtime.layout import IMAGES, LATENTS, MODELS
from pipeline.runtime.processes import check_divides, is_first, pick_device
from pipeline.runtime.resumable import hashes_of
from pipeline.settings import params
from pipeline.settings.diffusion import DiffusionSettings
from pipeline.synthesis import diffusion
from pipeline.synthesis.autoencoder import AnyAutoencoder, to_latents
from pipeline.synthesis.diffusion import TrainingData
from pipeline.training.checkpoints import Checkpoint
from pipeline.training.loop import fit

if TYPE_CHECKING:
    from pipeline.synthesis.unet import ConditionalUNet

CHECKPOINT = MODELS / ".diffusion.checkpoint"


def load_data() -> TrainingData:
    """The training latents with their labels and the teacher's features, on the device."""
    device = pick_device()
    encoded, autoencoder = latents.load(LATENTS / "train.arrow"), models.load(AnyAutoencoder, MODELS / "autoencoder")
    teacher = models.load(Classifier, MODELS / "teacher").to(device)
    features = features_of(teacher, images.load_split(IMAGES, "train").pixels)
    mean, std = to_latents(autoencoder, encoded.mean), encoded.std * autoencoder.config.scaling_factor
    return TrainingData(*(part.to(device) for part in (mean, std, encoded.labels, features)))


def build(data: TrainingData, settings: DiffusionSettings) -> "ConditionalUNet":
    """An untrained model for the data; it standardises features by their statistics."""
    from pipeline.synthesis.unet import ConditionalUNet

    model = ConditionalUNet(
        int(data.labels.max()) + 1, data.features.shape[1], data.mean.shape[1], data.mean.shape[-1], settings.widths,
        settings.schedule, settings.prediction,
    )  # fmt: skip
    model.feature_mean.copy_(data.features.mean(dim=0))
    model.feature_std.copy_(data.features.std(dim=0).clamp_min(1e-3))
    return model.to(data.mean.device)


def train(data: TrainingData, settings: DiffusionSettings, seed: int) -> tuple["ConditionalUNet", float]:
    """Train the model; its averaged weights, and the mean loss of the last quarter of training."""
    from diffusers.training_utils import EMAModel

    check_divides("diffusion.batch", settings.batch)
    set_seed(seed)
    model = build(data, settings)
    average = EMAModel(model.parameters(), decay=settings.ema)
    inputs = hashes_of(LATENTS / "train.arrow", MODELS / "teacher", MODELS / "autoencoder")
    identity = {"settings": settings.model_dump(), "seed": seed, "inputs": inputs}

    def batches(start: int) -> Iterator[diffusion.LatentBatch]:
        every = diffusion.latent_batches(
            data, settings.batch, settings.feature_conditioning, settings.condition_dropout, seed
        )
        return islice(every, start, None)

    history = fit(
        model,
        torch.optim.AdamW(model.parameters(), lr=settings.learning_rate),
        batches,
        diffusion.objective(model.noise_schedule),
        steps=settings.steps,
        description="diffusion",
        warmup=settings.steps // 20,
        clip=1.0,
        after_step=lambda trained: average.step(trained.parameters()),
        checkpoint=Checkpoint(CHECKPOINT, settings.checkpoint_every, identity, {"average": average}),
    )
    average.copy_to(model.parameters())
    late = [value for row in history[-max(1, len(history) // 4) :] for name, value in row.items() if name != "step"]
    return model, sum(late) / len(late)


def main() -> None:
    settings, seed = params.read("diffusion", DiffusionSettings), params.read("seed", int)
    model, loss = train(load_data(), settings, seed)
    if is_first():
        with atomic_write(MODELS / "diffusion") as folder:
            model.save_pretrained(folder)
        CHECKPOINT.unlink(missing_ok=True)
    log(f"diffusion: loss {loss:.3f} over the last quarter")
