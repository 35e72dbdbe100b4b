"""Train the classifiers of every recipe, one for each seed.

Reads: data/images/{train,val}.parquet or, of a frozen network, data/features; data/outliers, data/controls,
data/models/teacher.
Writes: data/models/recipes/RECIPE/s<seed> (config.json, model.safetensors, detector.json, detector.safetensors,
training.json, README.md), data/curves/RECIPE/s<seed> (loss terms over time, see artifacts/curves.py).
Why: every recipe takes the same steps, ID images and number of outliers, so that only the recipe differs. One more seed
or recipe trains itself alone: a classifier whose inputs, settings and code are unchanged is taken over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from pipeline.artifacts import curves, models
from pipeline.artifacts import detector as detectors
from pipeline.artifacts import pretrained as pretrained_weights
from pipeline.artifacts.detector import Detector
from pipeline.artifacts.features import FeatureFile, Rows
from pipeline.artifacts.images import ImageFile
from pipeline.artifacts.model_card import model_card
from pipeline.artifacts.outputs import Head
from pipeline.artifacts.selection import Selection
from pipeline.classifier.fitting import Run, build_classifier, train_classifier
from pipeline.classifier.micl import PartnerBank, outlier_vectors
from pipeline.classifier.networks import Classifier, Neck, accuracy, folded, load_weights, predict
from pipeline.classifier.objective import Objective
from pipeline.classifier.training_data import TrainingData, shape_of
from pipeline.evaluation import deployed
from pipeline.runtime.closure import code_of
from pipeline.runtime.console import log
from pipeline.runtime.errors import UserError, like
from pipeline.runtime.files import atomic_write, read_json, remove_others, write_json
from pipeline.runtime.layout import CLASSIFIERS, CURVES, FEATURES, IMAGES, MODELS
from pipeline.runtime.processes import is_first, pick_device, wait
from pipeline.runtime.resumable import digest_of, hashes_of
from pipeline.settings import params
from pipeline.settings.recipes import Micl, Recipe, Recipes
from pipeline.settings.train import TrainSettings
from pipeline.training.batches import OPEN
from pipeline.training.loaders import whole
from pipeline.training.precision import resolve

FALSE_ALARMS = 0.05  # share of ID images that a classifier calls unknown where nothing else is asked for
# settings that decide no single training, or whose effect is in the digest of the images
ELSEWHERE = {"seeds", "outliers", "controls", "auxiliary_count", "checkpoint_every", "in_memory"}


class TrainingInputs:
    """What all trainings have in common, loaded when it is first asked for."""

    def __init__(self, settings: TrainSettings):
        self.settings = settings
        kind: Any = FeatureFile if settings.on_features else ImageFile
        place = f"{FEATURES}/{{}}.arrow" if settings.on_features else f"{IMAGES}/{{}}.parquet"
        self.paths = [Path(place.format(split)) for split in ("train", "val")]
        self.train_file, self.val_file = (kind(path) for path in self.paths)
        self.code = code_of("pipeline.train")

    @cached_property
    def inputs(self) -> list[str]:
        """SHA-256 of what is trained on, and of the weights that it starts from."""
        given = pretrained_weights.find(self.settings)
        return hashes_of(*self.paths) + (hashes_of(given.path) if given else [])

    @cached_property
    def data(self) -> TrainingData:
        """The images of all classes, or their features."""
        return TrainingData(self.train_file, self.val_file, shape_of(self.train_file), self.settings, self.auxiliary)

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

    @property
    def folder(self) -> Path:
        """Where it is written."""
        return CLASSIFIERS / self.name / f"s{self.seed}"

    @property
    def checkpoint(self) -> Path:
        """Where its state is kept while it runs."""
        return CLASSIFIERS.with_name(f".recipe-{self.name}-s{self.seed}.checkpoint")

    @property
    def is_done(self) -> bool:
        """There is a classifier that was made from the same."""
        path, drawn = self.folder / "training.json", CURVES / self.name / f"s{self.seed}"
        return path.is_file() and drawn.is_dir() and read_json(path).get("made_from") == self.digest


def pretrained(seed: int) -> Path:
    """The folder of the trained classifier that a seed's recipes start from, where they do not start from scratch."""
    return MODELS / "teacher" / "pretrained" / f"s{seed}"


def select(recipe: Recipe, settings: TrainSettings, name: str) -> Selection | None:
    """The recipe's auxiliary images: `auxiliary_count` of its methods by their shares; None without any.

    Raises:
        UserError: its terms and images do not go together; names the recipe's keys.
    """
    selection = None
    if recipe.auxiliary:
        # a set that was given to us may hold the controls too
        folders = list(dict.fromkeys(Path(folder) for folder in (settings.outliers, settings.controls)))
        selection = Selection(folders, recipe.counts(settings.auxiliary_count))
    found = (selection.has_outliers, selection.has_id_images, selection.has_parents) if selection else (False,) * 3
    if problem := recipe.misfit(*found):
        raise UserError(f"params.yaml: recipes.{name}: auxiliary {list(recipe.auxiliary)}: {problem}")
    return selection


def plan(name: str, recipe: Recipe, common: TrainingInputs) -> list[Training]:
    """The trainings of a recipe, a seed each.

    Raises:
        UserError: the recipe's keys do not go together, or something is missing.
    """
    settings, selection = common.settings, select(recipe, common.settings, name)
    about = {
        "recipe": recipe.model_dump(),
        "settings": settings.model_dump(exclude=ELSEWHERE) | {"precision": resolve(settings.precision)},
        "images": common.inputs,
        "auxiliary": [selection.digest(), selection.sizes[OPEN:] and selection.sizes] if selection else None,
        "teacher": hashes_of(*sorted((MODELS / "teacher").glob("*.*"))) if recipe.needs_teacher else None,
        "code": common.code,
    }
    found = []
    for seed in settings.seeds:
        start = hashes_of(pretrained(seed)) if settings.init_from == "pretrained" else []
        if settings.init_from == "pretrained" and not start:
            raise UserError(
                f"params.yaml: train.init_from is pretrained, but {pretrained(seed)} does not exist; add seed {seed} "
                "to teacher.pretrained_seeds and run `dvc repro`"
            )
        digest = digest_of(about | {"seed": seed, "start": start})
        found.append(Training(name, seed, recipe, selection, digest))
    return found


def partner_bank(selection: Selection, common: TrainingInputs, micl: Micl) -> PartnerBank:
    """The outliers that ID features are paired with: their latents, and where asked for the teacher's features."""
    device, embeddings = pick_device(), None
    if micl.needs_features:
        embeddings = predict(common.teacher, whole(selection)[0], common.settings.batch)[1].to(device)
    raw_latents, parents = (part.to(device) for part in selection.latents())
    vectors = outlier_vectors(raw_latents, embeddings if micl.vectors == "latents-and-features" else None)
    return PartnerBank(vectors, parents, len(common.train_file.classes), embeddings)


def train(one: Training, common: TrainingInputs) -> Classifier:
    """Train a classifier, its curves on disk as they grow."""
    settings, recipe, selection, data = common.settings, one.recipe, one.selection, common.data
    loaders = [data.id_images]
    if selection is not None and (recipe.shows_outliers or not selection.has_outliers):
        loaders.append(data.auxiliary_images(selection))
    head, neck = recipe.head.model_dump(), (settings.hidden or 0) if settings.on_features else None
    model = build_classifier(settings, one.seed, head, data.form, neck)
    if isinstance(model.neck, Neck):
        model.neck.measure(whole(data.train)[0])
    if settings.init_from == "pretrained":
        load_weights(model, models.load(Classifier, pretrained(one.seed)))
    teacher = common.teacher if recipe.needs_teacher else None
    bank = partner_bank(selection, common, recipe.micl) if recipe.micl and selection else None
    objective = Objective(recipe, model.head, teacher, bank, data.class_weights()).to(pick_device())
    run = Run(f"{one.name} seed {one.seed}", one.seed, one.checkpoint, one.digest, write_curves(one))
    train_classifier(data.part(model), loaders, objective, settings, run)
    model.eval()
    return folded(model) if neck == 0 and recipe.head.kind == "linear" else model


def write_curves(one: Training) -> Any:
    """What is called with each row of a training's history: it goes into the curves, of one process alone."""
    if not is_first():
        return lambda row: None
    folder = CURVES / one.name / f"s{one.seed}"
    curves.start(folder)
    return partial(curves.add, folder)


def detector(model: Classifier, common: TrainingInputs) -> tuple[Detector, float]:
    """The score that a classifier ships with, and its accuracy on ID validation images."""
    data, head = common.data, Head(model.head.weight.detach().cpu(), model.head.bias.detach().cpu())
    val = data.outputs(model, data.val)
    score = common.settings.score or {"msp" if isinstance(model.head, torch.nn.Linear) else "max-cosine": {}}
    known = data.outputs(model, data.train) if deployed.needs_training_outputs(score) else None
    return deployed.fit_score(score, FALSE_ALARMS, known, val, head), accuracy(val.logits, val.labels)


def save(model: Classifier, one: Training, common: TrainingInputs) -> float:
    """Write a trained model's folder; returns its accuracy on ID validation images."""
    own, right = detector(model, common)
    about = {"recipe": one.name, "seed": one.seed, "settings": one.recipe.model_dump(exclude_none=True)}
    form = (model.resize, model.size, model.channels)
    with atomic_write(one.folder) as folder:
        model.save_pretrained(folder)
        detectors.write(folder, own)
        write_json(folder / "training.json", {"made_from": one.digest})
        card = model_card(about, model.classes, form, own, right)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return right


def make(one: Training, common: TrainingInputs) -> None:
    """Train a classifier and write it."""
    model = train(one, common)
    if is_first():
        right = save(model, one, common)
        one.checkpoint.unlink(missing_ok=True)
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
    trainings = [one for name in wanted for one in plan(name, recipes[name], common)]
    left = [one for one in trainings if not one.is_done]
    wait()  # until every process has looked
    if done := len(trainings) - len(left):
        log(f"train: {done} of {len(trainings)} classifiers are taken over")
    for one in left:
        make(one, common)
    if is_first():
        named = {f"{name}/s{seed}" for name in recipes for seed in common.settings.seeds}
        for root in (CLASSIFIERS, CURVES):
            remove_others(root, named)
        if not names:  # a killed run left them, of what is named no more
            for path in CLASSIFIERS.parent.glob(".recipe-*.checkpoint"):
                path.unlink()
