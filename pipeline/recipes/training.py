"""One training of a recipe, from its settings to a classifier."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import models
from pipeline.artifacts.selection import Selection
from pipeline.classifier.fitting import Run, build_classifier, train_classifier
from pipeline.classifier.networks import Classifier, Neck, folded, load_weights
from pipeline.classifier.objective import Objective
from pipeline.classifier.virtual import VirtualOutliers
from pipeline.recipes.inputs import TrainingInputs, partner_bank, select, start_of
from pipeline.runtime.errors import UserError
from pipeline.runtime.layout import MODELS
from pipeline.runtime.processes import pick_device
from pipeline.runtime.resumable import digest_of, hashes_of
from pipeline.settings.recipes import Recipe
from pipeline.training.batches import OPEN
from pipeline.training.loaders import whole
from pipeline.training.loop import Row
from pipeline.training.precision import resolve

# settings that decide no single training, or whose effect is in the digest of the images
ELSEWHERE = {"score", "seeds", "outliers", "controls", "auxiliary_count", "checkpoint_every", "in_memory"}


@dataclass(frozen=True)
class Training:
    """One classifier that is to be trained: a recipe and a seed.

    Attributes:
        selection: the recipe's auxiliary images; None without any.
        digest: of all that it is made from.
    """

    name: str
    seed: int
    recipe: Recipe
    selection: Selection | None
    digest: str


def plan(name: str, recipe: Recipe, common: TrainingInputs, code: Any) -> list[Training]:
    """The trainings of a recipe, a seed each.

    Args:
        code: what the results depend on besides settings and inputs.

    Raises:
        UserError: the recipe's keys do not go together, or something is missing.
    """
    settings, selection = common.settings, select(recipe, name, common)
    about = {
        "recipe": recipe.model_dump(),
        "settings": settings.model_dump(exclude=ELSEWHERE) | {"precision": resolve(settings.precision)},
        "images": common.inputs,
        "auxiliary": [selection.digest(), selection.sizes[OPEN:] and selection.sizes] if selection else None,
        "teacher": hashes_of(*sorted((MODELS / "teacher").glob("*.*"))) if recipe.needs_teacher else None,
        "kept": common.kept,
        "code": code,
    }
    found = []
    for seed in settings.seeds:
        start = hashes_of(start_of(seed)) if settings.init_from == "pretrained" else []
        if settings.init_from == "pretrained" and not start:
            raise UserError(
                f"params.yaml: train.init_from is pretrained, but {start_of(seed)} does not exist; add seed {seed} "
                "to teacher.pretrained_seeds and run `dvc repro`"
            )
        digest = digest_of(about | {"seed": seed, "start": start})
        found.append(Training(name, seed, recipe, selection, digest))
    return found


def train(one: Training, common: TrainingInputs, checkpoint: Path, callback: Callable[[Row], None]) -> Classifier:
    """Train a classifier.

    Args:
        checkpoint: where its state is kept while it runs.
        callback: called with each row of its history.
    """
    settings, recipe, selection, data = common.settings, one.recipe, one.selection, common.data
    loaders = [data.id_images]
    if selection is not None and (recipe.shows_outliers or not selection.has_outliers):
        loaders.append(data.auxiliary_images(selection))
    head, neck = recipe.head.model_dump(), (settings.hidden or 0) if settings.on_features else None
    model = build_classifier(settings, one.seed, head, data.form, neck)
    if isinstance(model.neck, Neck):
        model.neck.measure(whole(data.train)[0])
    if settings.init_from == "pretrained":
        load_weights(model, models.load(Classifier, start_of(one.seed)))
    teacher = common.teacher if recipe.needs_teacher else None
    bank = partner_bank(selection, common, recipe.micl) if recipe.micl and selection else None
    share = settings.auxiliary_batch / settings.batch
    virtual = VirtualOutliers(made, settings.steps, share) if (made := recipe.virtual_outliers) else None
    objective = Objective(recipe, model.head, teacher, bank, data.class_weights(), virtual).to(pick_device())
    run = Run(f"{one.name} seed {one.seed}", one.seed, checkpoint, one.digest, callback)
    train_classifier(data.part(model), loaders, objective, settings, run)
    model.eval()
    return folded(model) if neck == 0 and recipe.head.kind == "linear" else model
