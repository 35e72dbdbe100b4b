"""The autoencoder that is none."""

from types import SimpleNamespace

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class PixelSpace(ModelMixin, ConfigMixin):
    """An autoencoder that changes nothing: its raw latents are the images, float in [-1, 1].

    With it every method works in pixel space, as the label-mixup paper's does, and no decoder leaves its marks.

    Args:
        scaling_factor: brings the images to about unit variance.
    """

    @register_to_config
    def __init__(self, scaling_factor: float = 1.0):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))  # a model has a device, and weights to save

    def encode(self, images: Tensor) -> SimpleNamespace:
        """The images as `latents`."""
        return SimpleNamespace(latents=images)

    def decode(self, raw_latents: Tensor) -> SimpleNamespace:
        """The raw latents as `sample`."""
        return SimpleNamespace(sample=raw_latents)
