"""The classifier: a network by name behind one interface of logits and features."""

import re
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from pytorch_ood.model import WideResNet
from torch import Tensor, nn

from pipeline.errors import UserError

WIDE_RESNET = re.compile(r"wrn-(\d+)-(\d+)")


def backbone(network: str, classes: int, channels: int) -> WideResNet:
    """A network by name: `wrn-DEPTH-WIDTH`, the wide residual network of pytorch-ood, without dropout.

    Raises:
        UserError: the name is unknown, or no such depth exists.
    """
    match = WIDE_RESNET.fullmatch(network)
    if not match or (int(match[1]) - 4) % 6 or int(match[1]) < 10 or int(match[2]) < 1:
        raise UserError(f"network {network!r}: unknown; expected wrn-DEPTH-WIDTH with depth 10, 16, 22, 28, 34 or 40")
    return WideResNet(classes, depth=int(match[1]), widen_factor=int(match[2]), drop_rate=0.0, in_channels=channels)


class Classifier(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="penumbra",
    tags=["out-of-distribution-detection", "image-classification"],
):
    """A classifier that takes images as they are stored: it normalises them itself, so nobody can forget to.

    Args:
        network: see `backbone`.
        classes: names of the ID classes, in the order of the logits.
        channels: 1 or 3.
        mean: of the ID training images in 0..1, one a channel.
        std: likewise.
    """

    def __init__(self, network: str, classes: list[str], channels: int, mean: list[float], std: list[float]):
        super().__init__()
        self.classes = classes
        self.backbone = backbone(network, len(classes), channels)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images, float in 0..1, (n, channels, h, w), to logits (n, classes) and pooled features (n, d)."""
        maps = self.backbone.feature_maps((images - self.mean) / self.std)
        features = maps.mean(dim=(2, 3))  # any image size, where the network's own pooling takes 32 px alone
        return self.backbone.fc(features), features

    @property
    def head(self) -> nn.Linear:
        """The last layer, from features to logits."""
        return self.backbone.fc

    @classmethod
    def _load_as_pickle(cls, model: Any, model_file: str, map_location: str, strict: bool) -> Any:
        raise UserError(f"{model_file}: pickled weights are never loaded; ask for model.safetensors")


def as_images(pixels: Tensor) -> Tensor:
    """uint8 pixels to float32 images in 0..1."""
    return pixels.float() / 255


def statistics(pixels: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of uint8 pixels (n, channels, h, w) in 0..1, one a channel."""
    images = as_images(pixels)
    return images.mean(dim=(0, 2, 3)).tolist(), images.std(dim=(0, 2, 3)).tolist()


@torch.no_grad()
def predict(model: nn.Module, pixels: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Logits and features of uint8 pixels, float32 on the CPU, with `model` in the mode it is in."""
    device = next(model.parameters()).device
    parts = [model(as_images(chunk.to(device))) for chunk in pixels.split(batch)]
    logits, features = zip(*parts, strict=True)
    return torch.cat(logits).float().cpu(), torch.cat(features).float().cpu()
