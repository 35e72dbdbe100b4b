"""Between pixels, raw latents and latents. The only place that knows the autoencoder's scaling.

diffusers takes longer to import than torch: what needs a model's class imports it, when it is called.

- `pixels`: uint8, (n, channels, size, size), as the images are stored.
- `raw_latents`: float32, (n, C, h, w), as the autoencoder gives and takes them; this is what is stored.
- `latents`: raw latents shifted and scaled to about unit variance; this is what a diffusion model sees.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.runtime.console import track
from pipeline.settings.encode import InferenceSettings
from pipeline.training.batches import shift, shuffled
from pipeline.training.precision import resolve

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderTiny

    from pipeline.synthesis.pixel_space import PixelSpace


Autoencoder: TypeAlias = "AutoencoderKL | AutoencoderTiny | PixelSpace"


class AnyAutoencoder:
    """Loads a folder's autoencoder by the class that its config names."""

    @staticmethod
    def from_pretrained(source: str, **options: Any) -> Autoencoder:
        """`PixelSpace`, or whatever `diffusers.AutoModel` finds."""
        from diffusers import AutoModel

        kind: Any = AutoModel
        if AutoModel.load_config(source, **options).get("_class_name") == "PixelSpace":
            from pipeline.synthesis.pixel_space import PixelSpace as kind
        return kind.from_pretrained(source, use_safetensors=True, **options)


def resolved(running: InferenceSettings) -> InferenceSettings:
    """The settings with the precision that `auto` stands for on this device."""
    return running.model_copy(update={"precision": resolve(running.precision)})


RESIZE = "bicubic, antialiased"  # between the images' size and the autoencoder's, either way
AUGMENT_PIXELS = 1  # shift while training: a small set is otherwise learned by heart


def small(channels: int, size: int, widths: list[int], latent_channels: int) -> "AutoencoderKL":
    """An untrained `AutoencoderKL` that halves the size once for every width after the first."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        latent_channels=latent_channels,
        sample_size=size,
        block_out_channels=tuple(widths),
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        norm_num_groups=8,
    )


def normalise(pixels: Tensor, size: int) -> Tensor:
    """uint8 pixels to float32 in [-1, 1] at the autoencoder's size."""
    images = pixels.float() / 127.5 - 1
    if images.shape[-1] == size:
        return images
    return functional.interpolate(images, size=(size, size), mode="bicubic", antialias=True).clamp(-1, 1)


class ImageBatch(NamedTuple):
    """What one training step sees: float32 images in [-1, 1], (n, channels, size, size)."""

    images: Tensor


def reconstruction_objective(kl_weight: float) -> Callable[[Any, ImageBatch], dict[str, Tensor]]:
    """Loss terms of a variational autoencoder: squared error a pixel, and KL to a unit Gaussian a latent dimension."""

    def objective(model: Any, batch: ImageBatch) -> dict[str, Tensor]:
        posterior = model.encode(batch.images).latent_dist
        decoded = model.decode(posterior.sample()).sample
        return {
            "reconstruction": functional.mse_loss(decoded.float(), batch.images),
            "kl": kl_weight * posterior.kl().mean() / posterior.mean[0].numel(),
        }

    return objective


def image_batches(pixels: Tensor, size: int, batch: int, seed: int) -> Iterator[ImageBatch]:
    """Endless batches of shifted images."""
    generator = torch.Generator().manual_seed(seed)
    for index in shuffled(len(pixels), batch, seed):
        yield ImageBatch(shift(normalise(pixels[index], size), AUGMENT_PIXELS, generator))


def _prepare(autoencoder: Autoencoder, chunk: Tensor, running: InferenceSettings) -> tuple[Tensor, torch.autocast]:
    """A chunk where and as the autoencoder likes it, and the arithmetic to run it in."""
    device = autoencoder.device
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=resolve(running.precision) == "bfloat16")
    return chunk.to(device).contiguous(memory_format=torch.channels_last), autocast


@torch.no_grad()
def encode(autoencoder: Autoencoder, pixels: Tensor, size: int, running: InferenceSettings) -> tuple[Tensor, Tensor]:
    """Pixels to the mean and standard deviation of their raw latents, float32 (n, C, h, w) on the CPU.

    An autoencoder without a posterior (`AutoencoderTiny`, `PixelSpace`) has standard deviation 0.
    """
    means, stds = [], []
    chunks = pixels.split(running.batch)
    autoencoder.to(memory_format=torch.channels_last)
    for chunk in track(chunks, "encode", len(chunks)):
        images, arithmetic = _prepare(autoencoder, normalise(chunk.to(autoencoder.device), size), running)
        with arithmetic:
            encoded = autoencoder.encode(images)
        if hasattr(encoded, "latent_dist"):
            mean, std = encoded.latent_dist.mean, encoded.latent_dist.std
        else:
            mean, std = encoded.latents, torch.zeros_like(encoded.latents)
        means.append(mean.float().contiguous().cpu())
        stds.append(std.float().contiguous().cpu())
    return torch.cat(means), torch.cat(stds)


def decode_images(autoencoder: Autoencoder, raw_latents: Tensor, size: int, running: InferenceSettings) -> Tensor:
    """Raw latents to images, float32 (n, channels, size, size) about [-1, 1], resized (bicubic, antialiased)."""
    latents, arithmetic = _prepare(autoencoder, raw_latents, running)
    with arithmetic:
        images = autoencoder.decode(latents).sample.float()
    if images.shape[-1] == size:
        return images
    return functional.interpolate(images, size=(size, size), mode="bicubic", antialias=True)


@torch.no_grad()
def decode(autoencoder: Autoencoder, raw_latents: Tensor, size: int, running: InferenceSettings) -> Tensor:
    """Raw latents to pixels, uint8 (n, channels, size, size) on the CPU."""
    decoded = []
    chunks = raw_latents.split(running.batch)
    autoencoder.to(memory_format=torch.channels_last)
    for chunk in track(chunks, "decode", len(chunks)):
        images = decode_images(autoencoder, chunk, size, running)
        decoded.append(((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu())
    return torch.cat(decoded)


def _scale(autoencoder: Autoencoder) -> tuple[float, float]:
    config = autoencoder.config
    return config.scaling_factor, getattr(config, "shift_factor", None) or 0.0


def latent_range(autoencoder: Autoencoder, largest: float | None) -> float | None:
    """The size in the diffusion model's latents of raw latents that far from the autoencoder's shift; none of none."""
    return largest and largest * _scale(autoencoder)[0]


def to_latents(autoencoder: Autoencoder, raw_latents: Tensor) -> Tensor:
    """Raw latents to the diffusion model's latents."""
    scale, offset = _scale(autoencoder)
    return (raw_latents - offset) * scale


def to_raw_latents(autoencoder: Autoencoder, latents: Tensor) -> Tensor:
    """The inverse of `to_latents`."""
    scale, offset = _scale(autoencoder)
    return latents / scale + offset
