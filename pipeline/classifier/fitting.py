"""Train one classifier: the recipe that teacher and students share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from accelerate.utils import set_seed
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline.artifacts.images import Preprocessing
from pipeline.classifier.networks import Classifier
from pipeline.classifier.objective import Objective
from pipeline.runtime.errors import UserError
from pipeline.runtime.processes import check_divides, pick_device
from pipeline.settings.training import TrainingSettings
from pipeline.training.checkpoints import Checkpoint
from pipeline.training.loaders import Augmentation, Batch, Loader, Pieces
from pipeline.training.loop import Row, fit
from pipeline.training.precision import resolve

RECENT = 4  # looks at the accuracy that are averaged


def loader(settings: TrainingSettings, data: Pieces, batch: int) -> Loader:
    """The data set as this training draws from it.

    Raises:
        UserError: the processes cannot share a batch evenly.
    """
    check_divides("batch or auxiliary_batch", batch)
    return Loader(data, batch, Augmentation(settings.shift, settings.flip), settings.in_memory)


@dataclass(frozen=True)
class Run:
    """One training: what it is called, what it depends on, and where its state is kept.

    Attributes:
        description: for progress and errors.
        seed: of its random draws.
        checkpoint: the file of its state, for a run that is killed.
        identity: JSON that decides the training besides its settings and seed.
        callback: called with each row of the history.
    """

    description: str
    seed: int
    checkpoint: Path
    identity: Any
    callback: Callable[[Row], None] = lambda row: None


def collapse(description: str) -> Callable[[Row], None]:
    """Watch the accuracy on ID training batches, and stop where it falls below half of what it was.

    Raises:
        UserError: by the function that is given back.
    """
    seen: list[float] = []
    best = 0.0

    def callback(row: Row) -> None:
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

    return callback


def batches(loaders: list[Loader], seed: int, start: int) -> Iterator[Batch]:
    """Endless concatenated batches from number `start` on, one part from each loader, ID first."""
    for parts in zip(*(loader.draws(seed + i, start) for i, loader in enumerate(loaders)), strict=True):
        images, labels = zip(*parts, strict=True)
        yield Batch(torch.cat(images).contiguous(memory_format=torch.channels_last), torch.cat(labels))


def train_classifier(
    model: Classifier,
    loaders: list[Loader],
    objective: Objective,
    settings: TrainingSettings,
    run: Run,
) -> list[Row]:
    """Train a classifier in place with SGD, Nesterov momentum and a cosine schedule; it ends in eval mode.

    Args:
        model: untrained, on the device.
        loaders: ID images first, then further images of each step.

    Returns:
        the loss terms and the ID accuracy over time.

    Raises:
        UserError: a term is not finite, or the ID accuracy collapsed.
    """
    set_seed(run.seed)
    precision = resolve(settings.precision)
    extra, average = objective.stateful, None
    if settings.ema:
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema), use_buffers=True)
        extra["average"] = average
    watch = collapse(run.description)

    def callback(row: Row) -> None:
        run.callback(row)
        watch(row)

    history = fit(
        model,
        torch.optim.SGD(
            [*model.parameters(), *objective.parameters()], settings.learning_rate, momentum=0.9, nesterov=True,
            weight_decay=settings.weight_decay,
        ),
        lambda start: batches(loaders, run.seed, start),
        objective,
        steps=settings.steps,
        description=run.description,
        warmup=settings.warmup,
        precision=precision,
        compiled=settings.compile,
        after_step=average.update_parameters if average else None,
        callback=callback,
        checkpoint=Checkpoint(
            run.checkpoint, settings.checkpoint_every, [settings.model_dump(), precision, run.seed, run.identity], extra
        ),
    )  # fmt: skip
    if average:
        model.load_state_dict(average.module.state_dict())
    return history


def build_classifier(
    settings: TrainingSettings, seed: int, head: dict[str, Any], loader: Loader, classes: list[str],
    preprocessing: Preprocessing,
) -> Classifier:  # fmt: skip
    """A classifier for the images of a loader, on the device, its weights drawn from the seed."""
    set_seed(seed)
    channels, size, _ = loader.shape
    own = preprocessing
    mean, std = (own.mean, own.std) if own.mean and own.std else loader.statistics
    model = Classifier(settings.network, head, classes, size, channels, mean, std, own.resize)
    return model.to(pick_device()).to(memory_format=torch.channels_last)
