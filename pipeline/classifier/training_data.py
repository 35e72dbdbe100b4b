"""What recipes are trained on and looked at with: images, or the features that a frozen network has of them."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pipeline.artifacts.features import FeatureFile, Rows
from pipeline.artifacts.images import ImageFile, Preprocessing
from pipeline.artifacts.outputs import Outputs
from pipeline.artifacts.selection import Selection
from pipeline.classifier.fitting import Form, loader
from pipeline.classifier.networks import Classifier, predict
from pipeline.settings.train import TrainSettings
from pipeline.training.augmentation import augmentation, none
from pipeline.training.loaders import Loader


class Labelled(Protocol):
    """A set of ID images or of their features, in pieces: an `ImageFile`, a `FeatureFile`, or some of its classes."""

    classes: list[str]
    preprocessing: Preprocessing
    sizes: list[int]

    def load(self, piece: int) -> tuple[Tensor, Tensor]: ...  # pixels or features, and labels
    def names(self, piece: int) -> tuple[list[str], Tensor]: ...  # keys and labels


class SomeClasses:
    """The images of a set that are of some of its classes, labelled by their places among these.

    Args:
        kept: indices of classes, in the order of the new labels; a class that is not there has no image here.
    """

    def __init__(self, data: Labelled, kept: Sequence[int]):
        self.data, self.preprocessing = data, data.preprocessing
        self.classes = [data.classes[label] for label in kept]
        self._label = torch.full((len(data.classes),), -1)
        self._label[list(kept)] = torch.arange(len(kept))
        own = [
            torch.isin(data.names(piece)[1], torch.tensor(kept)).nonzero().flatten() for piece in range(len(data.sizes))
        ]
        self._rows = [(piece, rows) for piece, rows in enumerate(own) if len(rows)]
        self.sizes = [len(rows) for _, rows in self._rows]

    def load(self, piece: int) -> tuple[Tensor, Tensor]:
        """Pixels or features, and labels."""
        place, rows = self._rows[piece]
        values, labels = self.data.load(place)
        return values[rows], self._label[labels[rows]]

    def names(self, piece: int) -> tuple[list[str], Tensor]:
        """Keys and labels."""
        place, rows = self._rows[piece]
        keys, labels = self.data.names(place)
        return [keys[row] for row in rows.tolist()], self._label[labels[rows]]


class SelectedFeatures:
    """The features of a selection of auxiliary images.

    Args:
        files: of the features of each dataset.
    """

    def __init__(self, selection: Selection, files: dict[Any, Rows]):
        self.selection, self.files, self.sizes = selection, files, selection.sizes

    def load(self, piece: int) -> tuple[Tensor, Tensor]:
        """Features and labels of one shard's selected images."""
        keys, labels = self.selection.names(piece)
        return self.files[self.selection.folder(piece)].pick(keys), labels


class LastLayers(nn.Module):
    """What comes after a classifier's frozen network: its features to logits, and to features as the head sees them."""

    def __init__(self, model: Classifier):
        super().__init__()
        self.neck, self.head, self.backbone = model.neck, model.head, nn.Identity()

    def forward(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.neck(embedded))


class TrainingData:
    """The images or features of one training.

    Args:
        train, val: of the ID images.
        shape: of an image, (channels, height, width).
        auxiliary: of each outlier dataset, the features of its images; None where images are trained on.
    """

    def __init__(
        self, train: Labelled, val: Labelled, shape: tuple[int, int, int], settings: TrainSettings,
        auxiliary: dict[Any, Rows] | None,
    ):  # fmt: skip
        self.val, self.settings, self.auxiliary = val, settings, auxiliary
        self.train, self.shape = train, shape
        self.augment = none if settings.on_features else augmentation(settings, shape[-1])
        self.id_images = loader(settings, train, settings.batch, self.augment)
        self._val_pieces = cache(val.load) if settings.in_memory else val.load  # every classifier looks at them

    @property
    def form(self) -> Form:
        """What a classifier is made for."""
        images = self.id_images
        return Form(self.train.classes, self.shape, self.train.preprocessing, lambda: images.statistics, images.some)

    def auxiliary_images(self, selection: Selection) -> Loader:
        """The auxiliary images that a recipe names."""
        data = selection if self.auxiliary is None else SelectedFeatures(selection, self.auxiliary)
        return loader(self.settings, data, self.settings.auxiliary_batch, self.augment)

    def part(self, model: Classifier) -> nn.Module:
        """What of a classifier learns from this data: all of it, or what comes after its network."""
        return LastLayers(model) if self.settings.on_features else model

    def class_weights(self) -> Tensor | None:
        """Of the cross-entropy, float32 (classes,): inversely as their images, 1 on average over images."""
        if self.settings.class_weights == "equal":
            return None
        labels = torch.cat([self.train.names(piece)[1] for piece in range(len(self.train.sizes))])
        counts = labels.bincount(minlength=len(self.train.classes))
        return len(labels) / (len(counts) * counts.float())

    def outputs(self, model: Classifier, data: Labelled) -> Outputs:
        """What a trained classifier says of a set, a piece in memory at a time."""
        own, parts, names = self.part(model), [], []
        for piece in range(len(data.sizes)):
            values = (self._val_pieces if data is self.val else data.load)(piece)[0]
            parts.append(predict(own, values, self.settings.batch))
            names.append(data.names(piece))
        logits, features = (torch.cat(column) for column in zip(*parts, strict=True))
        keys = [key for own_keys, _ in names for key in own_keys]
        return Outputs(keys, torch.cat([labels for _, labels in names]), logits, features)


def shape_of(file: ImageFile | FeatureFile) -> tuple[int, int, int]:
    """Of the images of a set, (channels, height, width)."""
    if isinstance(file, FeatureFile):
        return file.shape
    channels, height, width = file.load(0)[0].shape[1:]
    return channels, height, width
