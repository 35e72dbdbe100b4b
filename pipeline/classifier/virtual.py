"""Virtual outliers: made anew from the items of every batch, images or features of a frozen network.

All that is random is drawn by PyTorch's generator, whose state a checkpoint keeps.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.artifacts.roles import OOD_LABEL
from pipeline.classifier.attribution import attribution, moved
from pipeline.classifier.hamiltonian import between_classes
from pipeline.settings.virtual import (
    AroundSettings,
    HamiltonianSettings,
    MixtureSettings,
    PermutedSettings,
    VirtualSettings,
)
from pipeline.training.batches import together
from pipeline.training.loaders import Batch


def mixtures(items: Tensor, labels: Tensor, count: int, ratio: list[float]) -> Tensor:
    """Pairs of different classes, one over the other; none where all items are of one class.

    Args:
        items: float (n, ...).
        labels: int64 (n,).
        count: of the mixtures, at most n.
        ratio: bounds of the first one's share.
    """
    first = torch.randperm(len(items))[:count].to(items.device)
    others = labels[first][:, None] != labels
    if not others.any():
        return items[:0]
    partner = torch.rand(others.shape).to(items.device).masked_fill(~others, -1).argmax(dim=1)
    share = torch.empty(len(first)).uniform_(*ratio).to(items.device).view(-1, *[1] * (items.ndim - 1))
    return share * items[first] + (1 - share) * items[partner]


def permuted(features: Tensor, count: int) -> Tensor:
    """Each value of `count` rows from a row of its own: the columns of features (n, d), each shuffled by itself."""
    rows = torch.rand(features.shape).argsort(dim=0)[:count].to(features.device)
    return features.gather(0, rows)


def hamiltonian(model: Any, features: Tensor, labels: Tensor, count: int, settings: HamiltonianSettings) -> Tensor:
    """Outliers between neighbouring classes, drawn on the sphere of the standardised features."""
    neck = model.neck
    standardised = (features - neck.mean) / neck.std
    length = standardised.norm(dim=1).median()
    drawn = between_classes(functional.normalize(standardised), labels, count, settings)
    return neck.mean + neck.std * length * drawn


def around(model: Any, outliers: Tensor, count: int, sigma: float) -> Tensor:
    """Features (count, d) near random ones of the outliers (m, d), by Gaussian noise in ID's deviations."""
    rows = torch.randint(len(outliers), (count,)).to(outliers.device)
    return outliers[rows] + sigma * model.neck.std * torch.randn(count, outliers.shape[1]).to(outliers.device)


class VirtualOutliers(nn.Module):
    """Adds outliers to the batches of a training.

    Args:
        steps: of the training.
        share: outliers per ID item.
    """

    done: Tensor

    def __init__(self, settings: VirtualSettings, steps: int, share: float):
        super().__init__()
        self.settings, self.steps, self.share = settings, steps, share
        self.register_buffer("done", torch.tensor(0))

    @torch.no_grad()
    def forward(self, model: nn.Module, batch: Batch) -> Batch:
        """The batch with its virtual outliers at the end."""
        is_id = batch.labels >= 0
        items, labels, count = batch.images[is_id], batch.labels[is_id], max(1, round(self.share * int(is_id.sum())))
        if isinstance(self.settings, AroundSettings):
            outliers = around(model, batch.images[~is_id], count, self.settings.sigma)
        else:
            outliers = self._of_id(model, items, labels, count)
        self.done += 1
        named = labels.new_full((len(outliers),), OOD_LABEL)
        return Batch(together([batch.images, outliers]), torch.cat([batch.labels, named]))

    def _of_id(self, model: Any, items: Tensor, labels: Tensor, count: int) -> Tensor:
        settings: Any = self.settings
        match settings:
            case MixtureSettings():
                return mixtures(items, labels, count, settings.ratio)
            case PermutedSettings():
                return permuted(items, count)
            case HamiltonianSettings():
                return hamiltonian(model, items, labels, count, settings)
        return self._attributed(model, items[:count], labels[:count])

    def _attributed(self, model: Any, images: Tensor, labels: Tensor) -> Tensor:
        """The first images moved by the gradient of the network as it is."""
        settings: Any = self.settings
        first, last = settings.step
        step = first + (last - first) * int(self.done) / max(1, self.steps - 1)
        model.eval()
        with torch.enable_grad():
            gradient = attribution(model, images, labels)
        model.train()
        return moved(images, gradient, model.std, settings.share, step, settings.sign)
