"""Encode the ID images to raw latents, once.

Reads: data/images/{train,val,test}.parquet, data/models/autoencoder.
Writes: data/latents/{train,val,test}.arrow, memory-mapped by whoever reads them.
Why: outliers are sampled around ID latents, and the filter's thresholds come from validation latents; test latents are
only ever decoded, to see whether a classifier flags what merely went through the autoencoder.
"""

from typing import Literal

from accelerate import Accelerator

from pipeline import params
from pipeline.artifacts import images, latents, models
from pipeline.artifacts.files import replacing
from pipeline.artifacts.images import ImageSet
from pipeline.artifacts.latents import Latents
from pipeline.artifacts.layout import IMAGES, LATENTS, MODELS
from pipeline.console import say
from pipeline.synthesis import autoencoder as space

SPLITS: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")


def encode_set(autoencoder: space.Autoencoder, image_set: ImageSet, size: int, running: space.Running) -> Latents:
    """Raw latents of a whole image set, in its order."""
    mean, std = space.encode(autoencoder, image_set.pixels, size, running)
    return Latents(image_set.keys, image_set.labels, mean, std)


def main() -> None:
    running, size = params.read("encode", space.Running), params.read("autoencoder.size", int)
    autoencoder = models.load(space.AnyAutoencoder, MODELS / "autoencoder").to(Accelerator().device)
    with replacing(LATENTS) as folder:
        for split in SPLITS:
            encoded = encode_set(autoencoder, images.load_split(IMAGES, split), size, running)
            latents.write(folder / f"{split}.arrow", encoded)
            say(f"encode: {split} {tuple(encoded.mean.shape)}, std {encoded.mean.std():.3f}")
