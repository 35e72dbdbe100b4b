"""Train one classifier: the recipe that teacher and students share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import torch
from accelerate.utils import set_seed
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline.artifacts.images import Preprocessing
from pipeline.classifier.networks import Classifier
from pipeline.classifier.objective import Objective
from pipeline.runtime.errors import UserError
from pipeline.runtime.processes import check_divides, pick_device
from pipeline.settings.params import Section
from pipeline.training.checkpoints import Checkpoint
from pipeline.training.loaders import Augmentation, Batch, Pieces, Pool
from pipeline.training.loop import Precision, Row, fit

RECENT = 4  # looks at the accuracy that are averaged


class Training(Section):
    """How a classifier is trained; the same for every recipe, so that recipes can be compared."""

    network: str
    steps: PositiveInt
    batch: PositiveInt
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    warmup: NonNegativeInt
    shift: NonNegativeInt
    flip: bool
    ema: Annotated[float, Field(ge=0, lt=1)]
    precision: Precision
    compile: bool
    in_memory: bool
    checkpoint_every: PositiveInt

    def pool(self, data: Pieces, batch: int) -> Pool:
        """The data set as this training draws from it.

        Raises:
            UserError: the processes cannot share a batch evenly.
        """
        check_divides("batch or auxiliary_batch", batch)
        return Pool(data, batch, Augmentation(self.shift, self.flip), self.in_memory)


@dataclass(frozen=True)
class Kept:
    """What makes a training survive a kill, and what watches it.

    Attributes:
        checkpoint: the file of its state.
        identity: JSON that decides the training besides its settings.
        look: called with each row of the history.
    """

    checkpoint: Path
    identity: Any
    look: Callable[[Row], None] = lambda row: None


def collapse(description: str) -> Callable[[Row], None]:
    """Watch the accuracy on ID training batches, and stop where it falls below half of what it was.

    Raises:
        UserError: by the function that is given back.
    """
    seen: list[float] = []
    best = 0.0

    def look(row: Row) -> None:
        nonlocal best
        seen.append(row["accuracy"])
        recent = mean(seen[-RECENT:])
        if len(seen) >= RECENT:
            best = max(best, recent)
        if recent < best / 2:
            raise UserError(
                f"{description}: ID accuracy fell from {best:.0%} to {recent:.0%} by step {row['step']}; lower "
                "learning_rate, or the weights of the recipe's terms"
            )

    return look


def batches(pools: list[Pool], seed: int, start: int) -> Iterator[Batch]:
    """Endless concatenated batches from number `start` on, one part from each pool, ID first."""
    for parts in zip(*(pool.draws(seed + i, start) for i, pool in enumerate(pools)), strict=True):
        images, labels = zip(*parts, strict=True)
        yield Batch(torch.cat(images).contiguous(memory_format=torch.channels_last), torch.cat(labels))


def train_classifier(
    model: Classifier,
    pools: list[Pool],
    objective: Objective,
    settings: Training,
    seed: int,
    description: str,
    kept: Kept,
) -> list[Row]:
    """Train a classifier in place with SGD, Nesterov momentum and a cosine schedule; it ends in eval mode.

    Args:
        model: untrained, on the device.
        pools: ID images first, then further images of each step.

    Returns:
        the loss terms and the ID accuracy over time.

    Raises:
        UserError: a term is not finite, or the ID accuracy collapsed.
    """
    set_seed(seed)
    extra, average = objective.stateful, None
    if settings.ema:
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema), use_buffers=True)
        extra["average"] = average
    watch = collapse(description)

    def look(row: Row) -> None:
        kept.look(row)
        watch(row)

    history = fit(
        model,
        torch.optim.SGD(
            [*model.parameters(), *objective.parameters()], settings.learning_rate, momentum=0.9, nesterov=True,
            weight_decay=settings.weight_decay,
        ),
        lambda start: batches(pools, seed, start),
        objective,
        steps=settings.steps,
        description=description,
        warmup=settings.warmup,
        precision=settings.precision,
        compiled=settings.compile,
        after_step=average.update_parameters if average else None,
        look=look,
        checkpoint=Checkpoint(
            kept.checkpoint, settings.checkpoint_every, [settings.model_dump(), seed, kept.identity], extra
        ),
    )  # fmt: skip
    if average:
        model.load_state_dict(average.module.state_dict())
    return history


def untrained(
    settings: Training, seed: int, head: dict[str, Any], pool: Pool, classes: list[str], preprocessing: Preprocessing
) -> Classifier:
    """A classifier for the images of a pool, on the device, its weights drawn from the seed."""
    set_seed(seed)
    channels, size, _ = pool.shape
    own = preprocessing
    mean, std = (own.mean, own.std) if own.mean and own.std else pool.statistics
    model = Classifier(settings.network, head, classes, size, channels, mean, std, own.resize)
    return model.to(pick_device()).to(memory_format=torch.channels_last)
