"""What is trained on: ID images or their features, auxiliary images, the teacher, the weights to start from."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.artifacts import models, pretrained
from pipeline.artifacts.features import FeatureFile, Rows
from pipeline.artifacts.images import ImageFile
from pipeline.artifacts.selection import Selection
from pipeline.classifier.micl import PartnerBank, outlier_vectors
from pipeline.classifier.networks import Classifier, predict
from pipeline.classifier.training_data import SomeClasses, TrainingData, shape_of
from pipeline.runtime.errors import UserError
from pipeline.runtime.layout import FEATURES, IMAGES, MODELS
from pipeline.runtime.processes import pick_device
from pipeline.runtime.resumable import hashes_of
from pipeline.settings.recipes import Micl, Recipe
from pipeline.settings.train import TrainSettings
from pipeline.training.loaders import whole


def open_file(name: str, on_features: bool) -> Any:
    """A set of `prepare` by its name, or the features of it."""
    return FeatureFile(FEATURES / f"{name}.arrow") if on_features else ImageFile(IMAGES / f"{name}.parquet")


class TrainingInputs:
    """What trainings have in common, loaded when it is first asked for.

    Args:
        kept: indices of the ID classes that are trained on; None for all.
    """

    def __init__(self, settings: TrainSettings, kept: Sequence[int] | None = None):
        self.settings, self.kept = settings, kept
        self.train_file, self.val_file = (open_file(split, settings.on_features) for split in ("train", "val"))

    @cached_property
    def inputs(self) -> list[str]:
        """SHA-256 of what is trained on, and of the weights that it starts from."""
        given = pretrained.find(self.settings)
        return hashes_of(self.train_file.path, self.val_file.path) + (hashes_of(given.path) if given else [])

    @cached_property
    def data(self) -> TrainingData:
        """The images of the classes, or their features."""
        train, val = self.train_file, self.val_file
        if self.kept is not None:
            train, val = SomeClasses(train, self.kept), SomeClasses(val, self.kept)
        return TrainingData(train, val, shape_of(self.train_file), self.settings, self.auxiliary)

    @property
    def left_out(self) -> frozenset[int]:
        """Indices of the ID classes that are not trained on."""
        classes = range(len(self.train_file.classes))
        return frozenset(classes) - frozenset(classes if self.kept is None else self.kept)

    @cached_property
    def auxiliary(self) -> dict[Path, Rows] | None:
        """Features of the images of each outlier dataset."""
        if not self.settings.on_features:
            return None
        named = {Path(getattr(self.settings, name)): FEATURES / f"{name}.arrow" for name in ("controls", "outliers")}
        return {folder: Rows(path) for folder, path in named.items() if path.is_file()}

    @cached_property
    def teacher(self) -> Classifier:
        return models.load(Classifier, MODELS / "teacher").to(pick_device())


def start_of(seed: int) -> Path:
    """The folder of the trained classifier that a seed's recipes start from, where they do not start from scratch."""
    return MODELS / "teacher" / "pretrained" / f"s{seed}"


def select(recipe: Recipe, name: str, common: TrainingInputs) -> Selection | None:
    """The recipe's auxiliary images: `auxiliary_count` of its methods by their shares; None without any.

    Those that were made from a class that is not trained on are left out.

    Raises:
        UserError: its terms and images do not go together; names the recipe's keys.
    """
    settings, selection = common.settings, None
    if recipe.auxiliary:
        # a set that was given to us may hold the controls too
        folders = list(dict.fromkeys(Path(folder) for folder in (settings.outliers, settings.controls)))
        selection = Selection(folders, recipe.counts(settings.auxiliary_count), common.left_out)
    found = (selection.has_outliers, selection.has_id_images, selection.has_parents) if selection else (False,) * 3
    if problem := recipe.misfit(*found):
        raise UserError(f"params.yaml: recipes.{name}: auxiliary {list(recipe.auxiliary)}: {problem}")
    return selection


def partner_bank(selection: Selection, common: TrainingInputs, micl: Micl) -> PartnerBank:
    """The outliers that ID features are paired with: their latents, and where asked for the teacher's features."""
    device, embeddings = pick_device(), None
    if micl.needs_features:
        embeddings = predict(common.teacher, whole(selection)[0], common.settings.batch)[1].to(device)
    raw_latents, parents = (part.to(device) for part in selection.latents())
    vectors = outlier_vectors(raw_latents, embeddings if micl.vectors == "latents-and-features" else None)
    return PartnerBank(vectors, parents, len(common.data.train.classes), embeddings)
