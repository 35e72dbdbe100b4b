"""Against shortcuts: make outliers share the low-level looks of ID images, so that only their content is unknown.

An outlier comes out of a decoder, which blurs, hardly gives pure black and adds no compression artefacts. Each
correction takes one of these signs away; the audit says what is left.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from skimage.exposure import match_histograms
from torch import Tensor
from torch.nn import functional

from pipeline.settings.methods import JPEG
from pipeline.shortcuts.audit import sharpness

STRONGEST = 8.0  # of a sharpening: the blurred-away part is added at most so often
HALVINGS = 16  # of the interval in which the strength is searched


@dataclass(frozen=True)
class Reference:
    """What outliers are made to look like: for each an ID training image of its own.

    Attributes:
        pixels: uint8 (n, channels, size, size), the ID images.
        residual: what the decoder loses of them, float32 (n, channels, size, size) in grey levels.
    """

    pixels: Tensor
    residual: Tensor


def details(images: Tensor) -> Tensor:
    """What a small binomial blur takes from images (n, channels, size, size): added to them it sharpens."""
    line = torch.tensor([0.25, 0.5, 0.25])
    channels = images.shape[1]
    kernel = (line[:, None] * line).expand(channels, 1, 3, 3)
    return images - functional.conv2d(functional.pad(images, [1] * 4, mode="replicate"), kernel, groups=channels)


def _residual(images: Tensor, reference: Reference) -> Tensor:
    """Add what the decoder loses of the ID image."""
    return images + reference.residual


def _contrast(images: Tensor, reference: Reference) -> Tensor:
    """Give each image the standard deviation of its ID image, around its own mean."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    wanted = reference.pixels.float().std(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * wanted / images.std(dim=(1, 2, 3), keepdim=True).clamp_min(1e-3)


def _histogram(images: Tensor, reference: Reference) -> Tensor:
    """Give each image the grey levels of its ID image, in the order of its own."""
    pairs = zip(images.numpy(), reference.pixels.float().numpy(), strict=True)
    return torch.from_numpy(np.stack([match_histograms(own, other, channel_axis=0) for own, other in pairs])).float()


def _sharpness(images: Tensor, reference: Reference) -> Tensor:
    """Blur or sharpen each image until its mean absolute Laplacian is that of its ID image, as far as that goes."""
    fine = details(images)
    wanted = sharpness(reference.pixels)
    low, high = torch.full_like(wanted, -1), torch.full_like(wanted, STRONGEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = sharpness((images + middle[:, None, None, None] * fine).clamp(0, 255)) > wanted
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return images + low[:, None, None, None] * fine


Correction = Callable[[Tensor, Reference], Tensor]  # float32 images in grey levels (n, channels, size, size)
CORRECTIONS: dict[str, Correction] = {
    "residual": _residual,
    "contrast": _contrast,
    "histogram": _histogram,
    "sharpness": _sharpness,
}


def _as_pixels(images: Tensor) -> Tensor:
    return images.round().clamp(0, 255).to(torch.uint8)


def through_jpeg(pixels: Tensor, quality: int) -> Tensor:
    """uint8 pixels (n, channels, size, size) as a JPEG of this quality gives them back."""
    found = []
    for image in pixels.permute(0, 2, 3, 1).numpy():
        buffer = io.BytesIO()
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(buffer, "JPEG", quality=quality)
        found.append(np.asarray(Image.open(buffer)).reshape(image.shape))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).contiguous()


def apply(names: Sequence[str], pixels: Tensor, reference: Reference) -> Tensor:
    """Put uint8 pixels through the corrections in their order; `jpeg-75` for the codec of ID images' files."""
    for name in names:
        if match := JPEG.fullmatch(name):
            pixels = through_jpeg(pixels, int(match[1]))
        else:
            pixels = _as_pixels(CORRECTIONS[name](pixels.float(), reference))
    return pixels
