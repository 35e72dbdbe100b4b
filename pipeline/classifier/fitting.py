"""Train one classifier: the recipe that teacher and students share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline.artifacts import pretrained
from pipeline.artifacts.images import ImageFile, Preprocessing
from pipeline.classifier.networks import Classifier, last_stage, load_pretrained
from pipeline.classifier.objective import Objective
from pipeline.runtime.errors import UserError
from pipeline.runtime.processes import check_divides, pick_device
from pipeline.settings.training import TrainingSettings
from pipeline.training.augmentation import Augment
from pipeline.training.batches import as_images, together
from pipeline.training.checkpoints import Checkpoint
from pipeline.training.loaders import Batch, Loader, Pieces
from pipeline.training.loop import Row, fit
from pipeline.training.precision import resolve

RECENT = 4  # looks at the accuracy that are averaged


def loader(settings: TrainingSettings, data: Pieces, batch: int, augment: Augment) -> Loader:
    """The data set as this training draws from it.

    Raises:
        UserError: the processes cannot share a batch evenly.
    """
    check_divides("batch or auxiliary_batch", batch)
    return Loader(data, batch, augment, settings.in_memory)


class Form(NamedTuple):
    """What a classifier is made for.

    Attributes:
        classes: names of the ID classes.
        shape: of an image, (channels, height, width).
        preprocessing: of the images.
        statistics: gives mean and standard deviation of the images, in 0..1, one a channel.
        some: gives some of the training images, uint8 (n, channels, h, w).
    """

    classes: list[str]
    shape: tuple[int, int, int]
    preprocessing: Preprocessing
    statistics: Callable[[], tuple[list[float], list[float]]]
    some: Callable[[], Tensor]


def form_of(file: ImageFile, loader: Loader) -> Form:
    """The form of the training images, of which a loader reads."""
    return Form(file.classes, loader.shape, file.preprocessing, lambda: loader.statistics, loader.some)


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
        recent = fmean(seen[-RECENT:])
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
        yield Batch(together(images), torch.cat(labels))


def groups(model: Any, objective: Objective, settings: TrainingSettings) -> list[dict[str, Any]]:
    """What the optimiser changes: the head and what a loss term learns, and the network at its own learning rate."""
    network = {id(weight) for weight in model.backbone.parameters()} if settings.backbone_learning_rate else set()
    learning = [weight for weight in [*model.parameters(), *objective.parameters()] if weight.requires_grad]
    found: list[dict[str, Any]] = [{"params": [weight for weight in learning if id(weight) not in network]}]
    if network:
        own = [weight for weight in learning if id(weight) in network]
        found.append({"params": own, "lr": settings.backbone_learning_rate})
    return found


def train_classifier(
    model: nn.Module,
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
            groups(model, objective, settings), settings.learning_rate, momentum=0.9, nesterov=True,
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
    settings: TrainingSettings, seed: int, head: dict[str, Any], form: Form, neck: int | None = None
) -> Classifier:
    """A classifier on the device: its weights drawn from the seed, or those that the settings name.

    Raises:
        UserError: the weights are not there, or of another network.
    """
    set_seed(seed)
    given = pretrained.find(settings)
    model = Classifier(**config_of(settings, head, form, given), neck=neck)
    if given is not None:
        load_pretrained(model, settings.network, given.path)
        model.keeps_statistics = True
    elif hasattr(model.backbone, "measure"):
        model.backbone.measure((as_images(form.some()) - model.mean) / model.std)
    if settings.backbone != "all":
        learning = last_stage(model.backbone) if settings.backbone == "last-stage" else []
        model.backbone.requires_grad_(False)
        for weight in learning:
            weight.requires_grad_(True)
    return model.to(pick_device()).to(memory_format=torch.channels_last)


def config_of(
    settings: TrainingSettings, head: dict[str, Any], form: Form, given: pretrained.Pretrained | None
) -> dict[str, Any]:
    """The arguments of a `Classifier`. Inputs are normalised as the benchmark says, or the weights, or the images."""
    channels, size, _ = form.shape
    own = form.preprocessing
    if own.mean and own.std:
        mean, std = own.mean, own.std
    elif given is not None:
        mean, std = (given.mean, given.std) if channels == 3 else ([fmean(given.mean)], [fmean(given.std)])
    else:
        mean, std = form.statistics()
    return {
        "network": settings.network, "head": head, "classes": form.classes, "size": size, "channels": channels,
        "mean": mean, "std": std, "resize": own.resize,
    }  # fmt: skip
