"""Train the classifiers of one recipe, one for each seed.

Reads: data/images/{train,val}.parquet, data/outliers, data/controls, data/models/teacher.
Writes: data/models/recipes/RECIPE/s<seed> (config.json, model.safetensors, detector.json, README.md),
data/curves/RECIPE/s<seed> (loss terms over time, see artifacts/curves.py).
Why: every recipe takes the same steps, ID images and number of outliers, so that only the recipe differs.
"""

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from pipeline.artifacts import curves, images, models
from pipeline.artifacts.images import ImageFile, ImageSet
from pipeline.artifacts.model_card import model_card
from pipeline.artifacts.selection import Selection
from pipeline.classifier.fitting import Kept, Training, train_classifier, untrained
from pipeline.classifier.micl import Bank, outlier_vectors
from pipeline.classifier.networks import Classifier, accuracy, predict, take_over
from pipeline.classifier.objective import Objective, Terms
from pipeline.classifier.scores import SCORES
from pipeline.runtime.console import say
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import replacing_together, write_json
from pipeline.runtime.layout import CLASSIFIERS, CURVES, IMAGES, MODELS
from pipeline.runtime.processes import is_first, pick_device
from pipeline.runtime.resumable import fingerprint
from pipeline.settings import params
from pipeline.training.loaders import Pool, whole

ID_PASS_RATE = 0.95  # share of ID validation images below the stored threshold


class Params(Training):
    start: Literal["scratch", "trunks"]
    outliers: params.LocalPath
    controls: params.LocalPath
    auxiliary_count: PositiveInt
    auxiliary_batch: PositiveInt
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)]


class Recipe(Terms):
    auxiliary: dict[str, PositiveInt] = Field(default_factory=dict)

    @field_validator("auxiliary", mode="before")
    @classmethod
    def _equal_shares(cls, named: Any) -> Any:
        """A list names methods of which as many images are taken of each."""
        if not isinstance(named, list):
            return named
        if twice := [name for name, times in Counter(map(str, named)).items() if times > 1]:
            raise ValueError(f"{', '.join(twice)} named twice; expected NAME: SHARE of each where shares differ")
        return dict.fromkeys(named, 1)

    def misfit(self, has_outliers: bool, has_id_images: bool, has_parents: bool) -> str | None:
        """What of the auxiliary images and the terms does not go together; None if all does.

        Args:
            has_outliers: some of the auxiliary images are outliers.
            has_id_images: some are further ID images.
            has_parents: some were made from an ID class.
        """
        terms = {"exposure": self.exposure, "energy": self.energy, "information": self.information}
        used = [term for term, settings in terms.items() if settings is not None]
        if has_outliers and not used:
            return f"outliers, and no term that uses them; add {', '.join(terms)}, or name no outliers"
        if used and not has_outliers:
            return f"{' and '.join(used)} without outliers; name some under auxiliary, or remove the term"
        if used == ["information"] and has_id_images:
            return "information alone shows the network no auxiliary image; name outlier methods alone, or add exposure"
        if self.information is not None and not has_parents:
            return (
                "information needs outliers made from ID classes; name a method with parents, such as boundary or mixup"
            )
        return None


@dataclass
class Ingredients:
    """What training a recipe takes, loaded once for all seeds: ID and auxiliary images, the hashes of all that is
    read, the teacher, the outliers to pair ID features with."""

    pools: list[Pool]
    train_file: ImageFile
    inputs: list[str]
    teacher: Classifier | None = None
    bank: Bank | None = None


def trunk(seed: int) -> Path:
    """The folder of the trained classifier that a seed's recipes start from, where they do not start from scratch."""
    return MODELS / "teacher" / "trunks" / f"s{seed}"


def counts(recipe: Recipe, total: int) -> dict[str, int]:
    """How many images of each auxiliary method make up a total."""
    whole = sum(recipe.auxiliary.values())
    return {method: total * share // whole for method, share in recipe.auxiliary.items()}


def select(recipe: Recipe, settings: Params) -> Selection | None:
    """The recipe's auxiliary images: `auxiliary_count` of its methods by their shares; None without any."""
    if not recipe.auxiliary:
        return None
    # a set that was given to us may hold the controls too
    folders = list(dict.fromkeys(Path(folder) for folder in (settings.outliers, settings.controls)))
    return Selection(folders, counts(recipe, settings.auxiliary_count))


def check(recipe: Recipe, selection: Selection | None, name: str) -> None:
    """Refuse a recipe whose terms and auxiliary images do not go together.

    Raises:
        UserError: names the recipe's keys.
    """
    found = (selection.has_outliers, selection.has_id_images, selection.has_parents) if selection else (False,) * 3
    if problem := recipe.misfit(*found):
        raise UserError(f"params.yaml: recipes.{name}: auxiliary {list(recipe.auxiliary)}: {problem}")


def bank(selection: Selection, teacher: Classifier, batch: int) -> Bank:
    """The outliers that ID features are paired with: their latents, and the teacher's features of them."""
    raw_latents, parents = selection.latents()
    embeddings = predict(teacher, whole(selection)[0], batch)[1]
    device = pick_device()
    return Bank(outlier_vectors(raw_latents, embeddings).to(device), parents.to(device), len(teacher.classes))


def detector(model: Classifier, val_set: ImageSet, batch: int) -> tuple[dict[str, Any], float]:
    """A score and the threshold above which an image is unknown, and the accuracy on the same ID validation images."""
    logits, features = predict(model, val_set.pixels, batch)
    name = "msp" if isinstance(model.head, torch.nn.Linear) else "max-cosine"
    scores = SCORES[name](logits, features, model.head.weight.detach().cpu())
    threshold = float(scores.quantile(ID_PASS_RATE))
    found = {"score": name, "threshold": threshold, "id_pass_rate": ID_PASS_RATE}
    return found, accuracy(logits, val_set.labels)


def save(model: Classifier, folder: Path, about: dict[str, Any], val_set: ImageSet, batch: int) -> float:
    """Write a trained model's folder; gives its accuracy on ID validation images."""
    threshold, right = detector(model, val_set, batch)
    model.save_pretrained(folder)
    write_json(folder / "detector.json", threshold)
    form = (model.resize, model.size, model.channels)
    card = model_card(about, model.classes, form, threshold, right)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return right


def gather(recipe: Recipe, settings: Params, name: str) -> Ingredients:
    """Load what the recipe asks for.

    Raises:
        UserError: the recipe's keys do not go together, or something is missing.
    """
    train_file, selection = ImageFile(IMAGES / "train.parquet"), select(recipe, settings)
    check(recipe, selection, name)
    data = [train_file.path, MODELS / "teacher"]
    data += [Path(folder) / "dataset.json" for folder in (settings.outliers, settings.controls)]
    if settings.start == "trunks" and (missing := [seed for seed in settings.seeds if not trunk(seed).is_dir()]):
        raise UserError(
            f"params.yaml: train.start is trunks, but {trunk(missing[0])} does not exist; add seed {missing[0]} to "
            "teacher.trunks and run `dvc repro`"
        )
    found = Ingredients([settings.pool(train_file, settings.batch)], train_file, fingerprint(*data))
    if selection is not None and (recipe.needs_outliers or not selection.has_outliers):
        found.pools.append(settings.pool(selection, settings.auxiliary_batch))
    if recipe.distillation or recipe.information:
        found.teacher = models.load(Classifier, MODELS / "teacher").to(pick_device())
        if recipe.information and selection is not None:
            found.bank = bank(selection, found.teacher, settings.batch)
    return found


def train(name: str, seed: int, recipe: Recipe, settings: Params, found: Ingredients, checkpoint: Path) -> Classifier:
    """Train the recipe's classifier of one seed, its curves on disk as they grow."""
    about = (found.train_file.classes, found.train_file.preprocessing)
    model = untrained(settings, seed, recipe.head.model_dump(), found.pools[0], *about)
    if settings.start == "trunks":
        take_over(model, models.load(Classifier, trunk(seed)))
    objective = Objective(recipe, model, found.teacher, found.bank).to(pick_device())
    kept = Kept(checkpoint, [recipe.model_dump(), found.inputs])
    if is_first():
        folder = CURVES / name / f"s{seed}"
        curves.start(folder)
        kept = replace(kept, look=partial(curves.add, folder))
    train_classifier(model, found.pools, objective, settings, seed, f"{name} seed {seed}", kept)
    return model


def main(name: str) -> None:
    settings, recipe = params.read("train", Params), params.read(f"recipes.{name}", Recipe)
    found, val_set = gather(recipe, settings, name), images.load_split(IMAGES, "val")
    checkpoints = {seed: CLASSIFIERS / f".{name}-s{seed}.checkpoint" for seed in settings.seeds}
    with replacing_together(CLASSIFIERS / name) as folder:
        for seed, checkpoint in checkpoints.items():
            model = train(name, seed, recipe, settings, found, checkpoint)
            if is_first():
                about = {"recipe": name, "seed": seed, "settings": recipe.model_dump(exclude_none=True)}
                right = save(model, folder / f"s{seed}", about, val_set, settings.batch)
                say(f"train: {name} seed {seed}: {right:.1%} of validation images right")
    for checkpoint in checkpoints.values():  # the last one of each seed stood for its result until now
        checkpoint.unlink(missing_ok=True)
