"""Training throughput against what a user would write: `pytest tests/benchmarks/test_training.py --benchmark-only`.

CIFAR-sized images, the same network, optimiser, augmentation and number of images a step.
"""

from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from pipeline.classifier.fitting import Run, loader, train_classifier
from pipeline.classifier.networks import Classifier
from pipeline.classifier.objective import Objective
from pipeline.settings.recipes import Terms
from pipeline.settings.training import TrainingSettings

BATCH, IMAGES = 64, 512
STEPS = {"resnet-18": 4, "resnet-20": 30}
MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]


class Pictures(Dataset):
    """Images as torchvision's CIFAR-10 hands them out, and as `Loader` takes them."""

    def __init__(self, outliers: bool):
        random = np.random.default_rng(int(outliers))
        self.arrays = random.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
        self.labels = np.full(IMAGES, -1) if outliers else random.integers(0, 10, IMAGES)
        steps = [transforms.RandomCrop(32, padding=4, padding_mode="reflect"), transforms.RandomHorizontalFlip()]
        self.transform = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
        self.sizes = [IMAGES]

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[i])), int(self.labels[i])

    def load(self, piece: int) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.arrays).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(self.labels)


def settings(network: str, precision: str) -> TrainingSettings:
    return TrainingSettings.model_validate(
        {
            "network": network, "steps": STEPS[network], "batch": BATCH, "learning_rate": 0.1, "weight_decay": 5e-4,
            "warmup": 0, "shift": 4, "flip": True, "ema": 0.0, "precision": precision, "compile": False,
            "in_memory": True, "checkpoint_every": 10_000,
        }
    )  # fmt: skip


def classifier(network: str) -> Classifier:
    torch.manual_seed(0)
    return Classifier(network, {"kind": "linear"}, list("abcdefghij"), 32, 3, [0.0] * 3, [1.0] * 3)


def plain_loader(outliers: bool) -> Iterator[Any]:
    batches = DataLoader(
        Pictures(outliers), BATCH, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True
    )
    while True:
        yield from batches


def plain(network: str, with_outliers: bool) -> Callable[[], None]:
    """The loop of PyTorch's tutorial; with outliers, OpenOOD's outlier-exposure step (oe_trainer.py)."""
    model = classifier(network).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def run() -> None:
        known, unknown = plain_loader(False), plain_loader(True) if with_outliers else None
        for images, labels in islice(known, STEPS[network]):
            loss = outlier_step(model, images, labels, next(unknown)[0]) if unknown else step(model, images, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


def step(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(model(images)[0], labels)


def outlier_step(model: nn.Module, images: Tensor, labels: Tensor, unknown: Tensor) -> Tensor:
    logits = model(torch.cat([images, unknown]))[0]
    known = functional.cross_entropy(logits[: len(images)], labels)
    return known - 0.5 * (logits[len(images) :].mean(dim=1) - logits[len(images) :].logsumexp(dim=1)).mean()


def ours(network: str, with_outliers: bool, precision: str, folder: Any) -> Callable[[], None]:
    """This project's loop, loading and augmentation included."""
    model, how = classifier(network).to(memory_format=torch.channels_last), settings(network, precision)
    exposure = {"outlier_exposure": {"weight": 0.5, "temperature": 1.0}} if with_outliers else {}
    objective, number = Objective(Terms.model_validate(exposure), model.head), count()

    def run() -> None:
        kinds = [False, True] if with_outliers else [False]
        loaders = [loader(how, Pictures(kind), BATCH) for kind in kinds]
        train_classifier(model, loaders, objective, how, Run("benchmark", 0, folder / str(next(number)), None))

    return run


@pytest.mark.parametrize("way", ["plain", "ours-float32", "ours-bfloat16"])
@pytest.mark.parametrize("with_outliers", [False, True], ids=["cross-entropy", "outlier-exposure"])
@pytest.mark.parametrize("network", list(STEPS))
def test_training(benchmark: Any, tmp_path: Any, network: str, with_outliers: bool, way: str) -> None:
    benchmark.group = f"{network}, {'64 ID + 64 OOD' if with_outliers else '64 ID'} a step"
    precision = way.partition("-")[2]
    run = ours(network, with_outliers, precision, tmp_path) if precision else plain(network, with_outliers)
    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    images = STEPS[network] * BATCH * (1 + with_outliers)
    benchmark.extra_info["images a second"] = round(images / benchmark.stats.stats.min)
