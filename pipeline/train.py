"""Train the classifiers of one recipe, one for each seed.

Reads: data/images/{train,val}.parquet, data/outliers, data/controls, data/models/teacher.
Writes: data/models/recipes/RECIPE/s<seed> (config.json, model.safetensors, detector.json, history.json, README.md).
Why: every recipe takes the same steps, ID images and number of outliers, so that only the recipe differs.
"""

from pathlib import Path
from typing import Annotated

import torch
from accelerate import Accelerator
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from pytorch_ood.detector import MaxSoftmax
from torch import Tensor

from pipeline import params
from pipeline.artifacts import images, models, outliers
from pipeline.artifacts.files import replacing, write_json
from pipeline.artifacts.layout import CLASSIFIERS, IMAGES, MODELS
from pipeline.artifacts.model_card import model_card
from pipeline.console import say
from pipeline.errors import UserError
from pipeline.learning.networks import Classifier, predict
from pipeline.learning.objective import objective
from pipeline.learning.training import Auxiliary, Training, accuracy, train_classifier

TRUE_POSITIVE_RATE = 0.95  # share of ID validation images that the stored threshold lets pass


class Params(Training):
    outliers: str
    controls: str
    auxiliary_count: PositiveInt
    auxiliary_batch: PositiveInt
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)]


class Recipe(params.Section):
    auxiliary: list[str]
    exposure: Annotated[float, Field(ge=0)]
    distillation: Annotated[float, Field(ge=0)]
    temperature: PositiveFloat


def auxiliary_images(recipe: Recipe, settings: Params) -> Auxiliary | None:
    """The recipe's auxiliary images: `auxiliary_count` in equal parts of its methods; None without any.

    Raises:
        UserError: a method is in neither dataset, or has too few images.
    """
    if not recipe.auxiliary:
        return None
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for folder in (settings.outliers, settings.controls):
        if missing := [method for method in recipe.auxiliary if method not in found]:
            found |= outliers.load(Path(folder), missing)
    share = settings.auxiliary_count // len(recipe.auxiliary)
    for method in recipe.auxiliary:
        count = len(found[method][1]) if method in found else 0
        if count < share:
            raise UserError(
                f"{method}: {count} images in {settings.outliers} and {settings.controls}, expected {share}; lower "
                "train.auxiliary_count, raise shards.per_method, or name another method in the recipe"
            )
    columns = zip(*(found[method] for method in recipe.auxiliary), strict=True)
    pixels, labels = (torch.cat([part[:share] for part in parts]) for parts in columns)
    return Auxiliary(pixels, labels, settings.auxiliary_batch)


def detector(logits: Tensor) -> dict[str, str | float]:
    """A score and the threshold above which an image is unknown: 95 % of ID validation images stay below it."""
    threshold = float(MaxSoftmax.score(logits.double()).quantile(TRUE_POSITIVE_RATE))
    return {"score": "msp", "threshold": threshold, "id_true_positive_rate": TRUE_POSITIVE_RATE}


def check(recipe: Recipe, auxiliary: Auxiliary | None, name: str) -> None:
    """Refuse an exposure weight without outliers to expose to, and outliers that no term uses.

    Raises:
        UserError: names the recipe's keys.
    """
    has_outliers = auxiliary is not None and bool((auxiliary.labels < 0).any())
    if has_outliers != (recipe.exposure > 0):
        raise UserError(
            f"params.yaml: recipes.{name}: exposure {recipe.exposure} with auxiliary {recipe.auxiliary}; "
            "outliers need a weight above 0, and a weight needs outliers"
        )


def main(name: str) -> None:
    settings, recipe = params.read("train", Params), params.read(f"recipes.{name}", Recipe)
    train_set, val_set = images.load_split(IMAGES, "train"), images.load_split(IMAGES, "val")
    auxiliary = auxiliary_images(recipe, settings)
    check(recipe, auxiliary, name)
    teacher = models.load(Classifier, MODELS / "teacher").to(Accelerator().device) if recipe.distillation else None
    terms = objective(recipe.exposure, recipe.distillation, recipe.temperature, teacher)
    with replacing(CLASSIFIERS / name) as folder:
        for seed in settings.seeds:
            description = f"{name} seed {seed}"
            model, history = train_classifier(train_set, auxiliary, terms, settings, seed, description)
            logits, _ = predict(model, val_set.pixels, settings.batch)
            right, threshold = accuracy(logits, val_set.labels), detector(logits)
            config = {"classes": model.classes, "channels": train_set.pixels.shape[1]}
            card = model_card(name, seed, config, recipe.model_dump(), threshold, right)
            model.save_pretrained(folder / f"s{seed}")
            write_json(folder / f"s{seed}" / "detector.json", threshold)
            write_json(folder / f"s{seed}" / "history.json", history)
            (folder / f"s{seed}" / "README.md").write_text(card, encoding="utf-8")
            say(f"train: {description}: {right:.1%} of validation images right")
