"""The classifier: a network by name and a head by name behind one interface of logits and features."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from pipeline.artifacts.outputs import Head
from pipeline.classifier import heads
from pipeline.runtime.console import track
from pipeline.runtime.errors import UserError, one_line
from pipeline.settings import networks
from pipeline.settings.heads import parse
from pipeline.training.batches import as_images

IN_CACHE = 2**20  # values of images: 6 photographs of 224 pixels, 341 images of 32
BATCH = 500  # images that `features_of` takes at once


def backbone(network: str, channels: int, size: int | None = None) -> Any:
    """A network by name: images (n, channels, h, w) to pooled features (n, num_features), untrained.

    - `wrn-DEPTH-WIDTH`: pytorch-ood's wide residual network;
    - `resnet-18`, `resnet-20`, ...: for small images;
    - `fast-cnn`: wide and shallow, for small images; its first layer is measured from training images;
    - `timm:NAME`: any network of timm.

    Each library is imported for its own networks alone: torchvision and timm take seconds to import.

    Args:
        size: pixels of the images, see `sized`.

    Raises:
        UserError: the name is unknown, or no such depth exists.
    """
    match networks.parse(network):
        case networks.WideResNet(depth, width, dropout):
            from pipeline.classifier.wide_resnet import PooledWideResNet

            return PooledWideResNet(depth, width, dropout, channels)
        case networks.ResNet(depth):
            from pipeline.classifier.small_resnet import SmallImageResNet

            return SmallImageResNet(depth, channels)
        case networks.FastCnn():
            from pipeline.classifier.fast_cnn import SMALLEST, FastCnn

            if size is not None and size < SMALLEST:
                raise UserError(f"network fast-cnn: images of {size} pixels; expected at least {SMALLEST}")
            return FastCnn(channels)
        case networks.Timm(name):
            networks.check_network(network)
            import timm

            made = sized(timm.create_model(name, in_chans=channels, num_classes=0), size)
            made.num_features = made.head_hidden_size  # some widen after their last stage
            return made


def sized(network: Any, size: int | None) -> Any:
    """A transformer of timm made ready for images that are smaller than it was trained with: it sees fewer patches.

    One of DINOv2's takes 518 pixels, and with photographs of 224 a seventh of the time. Its position embeddings are
    interpolated. Images of fewer than 8 patches a side are enlarged instead, as those that patches do not fill.
    """
    about = network.pretrained_cfg
    if size is None or not about.get("fixed_input_size") or not hasattr(network, "set_input_size"):
        return network
    patch = network.patch_embed.patch_size[0]
    if 8 * patch <= size < about["input_size"][1] and size % patch == 0:
        network.set_input_size(img_size=size)
        network.pretrained_cfg = about | {"input_size": (about["input_size"][0], size, size)}
    return network


def last_stage(network: Any) -> list[nn.Parameter]:
    """The weights of a network of timm from its last stage, as timm counts them, to its end."""
    named = list(network.named_parameters())
    module = network.feature_info[-1]["module"]
    start = next(i for i, (name, _) in enumerate(named) if name.startswith(f"{module}."))
    return [weight for _, weight in named[start:]]


def load_pretrained(model: "Classifier", network: str, weights: Path) -> None:
    """Give a classifier's backbone the weights that timm's authors or a user trained, whatever their classes were.

    Args:
        network: `timm:NAME`, the classifier's.
        weights: a safetensors file of that network, with or without its last layer.

    Raises:
        UserError: another kind of network, or weights that do not fit it.
    """
    name = networks.timm_name(network)
    import timm

    try:
        own = {"file": str(weights), "custom_load": False}
        options = {"in_chans": model.channels, "num_classes": 0, "pretrained_cfg_overlay": own}
        made = sized(timm.create_model(name, pretrained=True, **options), model.size)
        with safe_open(weights, "pt") as file:  # timm overlooks weights that are missing
            if missing := set(made.state_dict()) - set(file.keys()):
                raise KeyError(f"{len(missing)} of its weights are missing, {min(missing)} for one")
    except (RuntimeError, KeyError, ValueError, SafetensorError) as error:
        reason = one_line(error)[:300]
        raise UserError(f"{weights}: not weights of {network} ({reason}); name the network they belong to") from None
    model.backbone.load_state_dict(made.state_dict())


class Neck(nn.Module):
    """The features of a frozen network, brought to mean 0 and deviation 1 over the training images; then a layer.

    Args:
        width: of the features.
        hidden: width of the layer, a linear one with a ReLU; 0 for none.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.layer = nn.Sequential(nn.Linear(width, hidden), nn.ReLU()) if hidden else nn.Identity()

    def measure(self, features: Tensor) -> None:
        """Take mean and deviation from features of the training images, (n, width); one that never varies keeps 1."""
        std, mean = torch.std_mean(features.double(), dim=0, correction=0)
        self.mean, self.std = mean.float(), torch.where(std > 0, std, 1).float()

    def forward(self, features: Tensor) -> Tensor:
        return self.layer((features - self.mean) / self.std)


class Classifier(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="penumbra",
    tags=["out-of-distribution-detection", "image-classification"],
):
    """A classifier that takes images as they are stored: it normalises them itself, so nobody can forget to.

    Args:
        network: see `backbone`.
        head: see `settings.heads`.
        classes: names of the ID classes, in the order of the logits.
        size: height and width of the images it is made for; a network whose input has a fixed size (most
            transformers of timm) sees them resized to that.
        channels: 1 or 3.
        mean: of the ID training images in 0..1, one a channel.
        std: likewise.
        resize: the shorter side of images before the crop to `size`; `size` where none.
        neck: what is between a frozen network and the head: None for nothing, 0 for its features brought to mean 0 and
            deviation 1, another number for a layer of that width on these.

    Raises:
        UserError: an unknown network or head.
    """

    def __init__(
        self,
        network: str,
        head: Mapping[str, Any],
        classes: list[str],
        size: int,
        channels: int,
        mean: list[float],
        std: list[float],
        resize: int | None = None,
        neck: int | None = None,
    ):
        super().__init__()
        self.classes, self.size, self.channels, self.resize = classes, size, channels, resize or size
        self.backbone = backbone(network, channels, size)
        self.neck = nn.Identity() if neck is None else Neck(self.backbone.num_features, neck)
        self.head = heads.build(parse(head), neck or self.backbone.num_features, len(classes))
        self.keeps_statistics = False
        about = getattr(self.backbone, "pretrained_cfg", {})
        self.input_size: list[int] | None = list(about["input_size"][1:]) if about.get("fixed_input_size") else None
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images, float in 0..1, (n, channels, h, w), to logits (n, classes) and features (n, d).

        logits = features @ head.weight.T + head.bias: an angular head gives features of length 1.
        """
        return self.classify(self.embed(images))

    def embed(self, images: Tensor) -> Tensor:
        """Images, likewise, to what the network makes of them, (n, d)."""
        normalised = (images - self.mean) / self.std
        if self.input_size is not None:
            normalised = functional.interpolate(normalised, self.input_size, mode="bilinear")
        return self.backbone(normalised)

    def classify(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """What the network made of images, (n, d), to logits and features, as `forward` gives them."""
        return self.head(self.neck(embedded))

    def train(self, mode: bool = True) -> "Classifier":
        """As of any module; batch normalisation whose statistics are kept stays in eval mode."""
        super().train(mode)
        if self.keeps_statistics:
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    @classmethod
    def _load_as_pickle(cls, model: Any, model_file: str, map_location: str, strict: bool) -> Any:
        raise UserError(f"{model_file}: pickled weights are never loaded; ask for model.safetensors")


@torch.no_grad()
def folded(model: Classifier) -> Classifier:
    """The same classifier without its neck, which becomes part of the linear head: detectors see what the network says.

    W ((x - m) / s) + b = (W / s) x + (b - W m / s).

    Args:
        model: with a linear head and a neck without a layer.
    """
    config: Any = model._hub_mixin_config  # the arguments that it was made with
    plain = Classifier(**(config | {"neck": None}))
    plain.backbone.load_state_dict(model.backbone.state_dict())
    weight = model.head.weight.double() / model.neck.std.double()
    plain.head.weight.copy_(weight)
    plain.head.bias.copy_(model.head.bias.double() - weight @ model.neck.mean.double())
    return plain.to(model.head.weight.device).eval()


def head_of(model: Classifier) -> Head:
    """The last layer of a classifier, on the CPU."""
    return Head(model.head.weight.detach().cpu(), model.head.bias.detach().cpu())


def load_weights(model: Classifier, trained: Classifier) -> None:
    """Give a classifier the weights of a trained one: those of its backbone, and of its head if it is of the same kind.

    Raises:
        UserError: another network.
    """
    try:
        model.backbone.load_state_dict(trained.backbone.state_dict())
    except RuntimeError:
        raise UserError(
            "params.yaml: train.init_from is pretrained, but train.network is not teacher.network; make them the same"
        ) from None
    if type(model.head) is type(trained.head):
        model.head.load_state_dict(trained.head.state_dict())


def at_once(values: int, batch: int, device: torch.device) -> int:
    """Images of a batch: on a processor no more than its caches hold, or photographs take twice as long.

    Args:
        values: of one image.
        batch: the most that is asked for.
    """
    return batch if device.type != "cpu" else min(batch, max(1, IN_CACHE // values))


@torch.no_grad()
def predict(model: nn.Module, pixels: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Logits and features of uint8 pixels, float32 on the CPU, with `model` in the mode it is in.

    Features of a frozen network, float32, go through what comes after it likewise.
    """
    device = next(model.parameters()).device
    chunks = (chunk.to(device) for chunk in pixels.split(at_once(pixels[0].numel(), batch, device)))
    parts = [model(as_images(chunk) if chunk.dtype == torch.uint8 else chunk) for chunk in chunks]
    logits, features = zip(*parts, strict=True)
    return torch.cat(logits).float().cpu(), torch.cat(features).float().cpu()


def features_of(model: nn.Module, pixels: Tensor) -> Tensor:
    """Features of a whole training set of uint8 pixels, float32 (n, features) on the CPU, as `predict` gives them."""
    chunks = pixels.split(BATCH)
    return torch.cat([predict(model, chunk, BATCH)[1] for chunk in track(chunks, "features", len(chunks))])


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of the rows of (n, classes), 0..1, whose largest logit is the label's."""
    return float((logits.argmax(dim=1) == labels).float().mean())
