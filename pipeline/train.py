"""Train the classifiers of every recipe, one for each seed.

Reads: data/images/{train,val}.parquet or, of a frozen network, data/features; data/outliers, data/controls,
data/models/teacher.
Writes: data/models/recipes/RECIPE/s<seed> (config.json, model.safetensors, detector.json, detector.safetensors,
training.json, README.md), data/curves/RECIPE/s<seed> (loss terms over time, see artifacts/curves.py).
Why: every recipe takes the same steps, ID images and number of outliers, so that only the recipe differs. One more seed
or recipe trains itself alone: a classifier whose inputs, settings and code are unchanged is taken over, and where only
its score or the code of detectors changed its weights are.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from pipeline.artifacts import curves, models
from pipeline.artifacts import detector as detectors
from pipeline.artifacts.model_card import model_card
from pipeline.classifier.networks import Classifier, accuracy
from pipeline.recipes.inputs import TrainingInputs
from pipeline.recipes.shipping import detector
from pipeline.recipes.training import Training, plan, train
from pipeline.runtime.closure import code_of
from pipeline.runtime.console import log
from pipeline.runtime.errors import UserError, like
from pipeline.runtime.files import atomic_write, read_json, remove_others, write_json
from pipeline.runtime.layout import CLASSIFIERS, CURVES
from pipeline.runtime.processes import is_first, pick_device, wait
from pipeline.runtime.resumable import digest_of
from pipeline.settings import params
from pipeline.settings.recipes import Recipe, Recipes
from pipeline.settings.train import TrainSettings
from pipeline.training.loop import Row


def folder_of(one: Training) -> Path:
    """Where a classifier is written."""
    return CLASSIFIERS / one.name / f"s{one.seed}"


def checkpoint_of(one: Training) -> Path:
    """Where the state of a training is kept while it runs."""
    return CLASSIFIERS.with_name(f".recipe-{one.name}-s{one.seed}.checkpoint")


def is_trained(one: Training) -> bool:
    """There are weights that were made from the same."""
    path, drawn = folder_of(one) / "training.json", CURVES / one.name / f"s{one.seed}"
    return path.is_file() and drawn.is_dir() and read_json(path).get("made_from") == one.digest


def ships(one: Training, shipped_from: str) -> bool:
    """There is a classifier with a score that was made from the same."""
    return is_trained(one) and read_json(folder_of(one) / "training.json").get("shipped_from") == shipped_from


def write_curves(one: Training) -> Callable[[Row], None]:
    """What is called with each row of a training's history: it goes into the curves, of one process alone."""
    if not is_first():
        return lambda row: None
    folder = CURVES / one.name / f"s{one.seed}"
    curves.start(folder)
    return partial(curves.add, folder)


def save(model: Classifier, one: Training, common: TrainingInputs, shipped_from: str) -> float:
    """Write a trained model's folder; returns its accuracy on ID validation images."""
    own, val = detector(model, common)
    right = accuracy(val.logits, val.labels)
    about = {"recipe": one.name, "seed": one.seed, "settings": one.recipe.model_dump(exclude_none=True)}
    form = (model.resize, model.size, model.channels)
    with atomic_write(folder_of(one)) as folder:
        model.save_pretrained(folder)
        detectors.write(folder, own)
        write_json(folder / "training.json", {"made_from": one.digest, "shipped_from": shipped_from})
        card = model_card(about, model.classes, form, own, right)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return right


def make(one: Training, common: TrainingInputs, shipped_from: str) -> None:
    """Train a classifier, or take its weights, and write it with its score."""
    if is_trained(one):
        model = models.load(Classifier, folder_of(one)).to(pick_device())
    else:
        model = train(one, common, checkpoint_of(one), write_curves(one))
    wait()  # until every process has looked
    if is_first():
        right = save(model, one, common, shipped_from)
        checkpoint_of(one).unlink(missing_ok=True)
        log(f"train: {one.name} seed {one.seed}: {right:.1%} of validation images right")
    wait()


def chosen(recipes: Mapping[str, Recipe], names: Sequence[str]) -> list[str]:
    """The recipes of these names, or all.

    Raises:
        UserError: there is no such recipe.
    """
    for name in names:
        if name not in recipes:
            known = ", ".join(recipes)
            raise UserError(f"params.yaml: recipes: no {name!r}{like(name, list(recipes))}; expected some of {known}")
    return list(names or recipes)


def main(*names: str) -> None:
    recipes = params.read("recipes", Recipes)
    wanted, common = chosen(recipes, names), TrainingInputs(params.read("train", TrainSettings))
    code = code_of("pipeline.recipes.training")
    trainings = [one for name in wanted for one in plan(name, recipes[name], common, code)]
    shipping = digest_of([common.settings.score, code_of("pipeline.train")])
    left = [one for one in trainings if not ships(one, shipping)]
    wait()  # until every process has looked
    if done := len(trainings) - len(left):
        log(f"train: {done} of {len(trainings)} classifiers are taken over")
    for one in left:
        make(one, common, shipping)
    if is_first():
        named = {f"{name}/s{seed}" for name in recipes for seed in common.settings.seeds}
        for root in (CLASSIFIERS, CURVES):
            remove_others(root, named)
        if not names:  # a killed run left them, of what is named no more
            for path in CLASSIFIERS.parent.glob(".recipe-*.checkpoint"):
                path.unlink()
