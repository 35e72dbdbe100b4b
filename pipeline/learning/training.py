"""Train one classifier from pixels in memory: the recipe that teacher and students share."""

from collections.abc import Callable, Iterator
from typing import Annotated, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from pipeline.artifacts.images import ImageSet
from pipeline.learning.batches import flip, shift, shuffled
from pipeline.learning.loop import fit
from pipeline.learning.networks import Classifier, as_images, statistics
from pipeline.learning.objective import Batch
from pipeline.params import Section


class Training(Section):
    """How a classifier is trained; the same for every recipe, so that recipes can be compared."""

    network: str
    steps: PositiveInt
    batch: PositiveInt
    learning_rate: PositiveFloat
    weight_decay: Annotated[float, Field(ge=0)]
    shift: Annotated[int, Field(ge=0)]
    flip: bool


class Pool:
    """Labelled pixels on a device, drawn without end in a seeded order and augmented.

    Args:
        pixels: uint8, (n, channels, h, w).
        labels: int64, (n,); -1 for outliers.
        batch: images of one draw.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, batch: int, settings: Training, seed: int):
        self.device = Accelerator().device
        self.pixels, self.labels = pixels.to(self.device), labels.to(self.device)
        self.settings = settings
        self.order = shuffled(len(pixels), batch, seed)
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self) -> Batch:
        index = next(self.order).to(self.device)
        images = shift(as_images(self.pixels[index]), self.settings.shift, self.generator)
        if self.settings.flip:
            images = flip(images, self.generator)
        return Batch(images, self.labels[index])


class Auxiliary(NamedTuple):
    """Images beside the ID ones: uint8 pixels, labels (-1 is an outlier), and how many of them a step sees."""

    pixels: Tensor
    labels: Tensor
    batch: int


def batches(pools: list[Pool]) -> Iterator[Batch]:
    """Endless concatenated batches, one part from each pool, ID first."""
    while True:
        images, labels = zip(*(pool.draw() for pool in pools), strict=True)
        yield Batch(torch.cat(images).to(memory_format=torch.channels_last), torch.cat(labels))


def train_classifier(
    id_set: ImageSet,
    auxiliary: Auxiliary | None,
    objective: Callable[[nn.Module, Batch], dict[str, Tensor]],
    settings: Training,
    seed: int,
    description: str,
) -> tuple[Classifier, list[dict[str, float]]]:
    """Train a classifier with SGD, Nesterov momentum and a cosine schedule.

    Args:
        id_set: the ID training images.
        auxiliary: further images of each step, or None.

    Returns:
        the classifier in eval mode, and the loss terms over time.
    """
    set_seed(seed)
    mean, std = statistics(id_set.pixels)
    model = Classifier(settings.network, id_set.classes, id_set.pixels.shape[1], mean, std)
    model = model.to(Accelerator().device).to(memory_format=torch.channels_last)
    pools = [Pool(id_set.pixels, id_set.labels, settings.batch, settings, seed)]
    if auxiliary is not None:
        pools.append(Pool(*auxiliary, settings, seed + 1))
    optimizer = torch.optim.SGD(
        model.parameters(), settings.learning_rate, momentum=0.9, nesterov=True, weight_decay=settings.weight_decay
    )
    history = fit(
        model, optimizer, batches(pools), objective,
        steps=settings.steps, description=description, warmup=settings.steps // 20,
    )  # fmt: skip
    return model, history


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of the rows of (n, classes), 0..1, whose largest logit is the label's."""
    return float((logits.argmax(dim=1) == labels).float().mean())
