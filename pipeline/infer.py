"""Cache logits and features of every image for every trained model.

Reads: data/images, data/models/recipes, data/controls/decoded-test.parquet if there is one.
Writes: data/outputs/RECIPE/s<seed>/, see artifacts/outputs.py, with the score the model ships with (`own`) and those of
detectors that need images.
Why: scoring can then change and rerun in seconds, without a network or a GPU.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from pydantic import PositiveInt

from pipeline import params
from pipeline.artifacts import images, models, outputs
from pipeline.artifacts.files import read_json, replacing
from pipeline.artifacts.images import ImageSet
from pipeline.artifacts.layout import CLASSIFIERS, IMAGES, OUTPUTS
from pipeline.artifacts.outputs import SPLITS, Head, Outputs
from pipeline.console import say, track
from pipeline.errors import UserError
from pipeline.evaluation import image_detectors
from pipeline.evaluation.grid import combinations, label
from pipeline.learning.networks import Classifier, as_images, predict
from pipeline.learning.scores import SCORES


class Params(params.Section):
    batch: PositiveInt
    train_images: PositiveInt | None
    detectors: dict[str, dict[str, Any]]


def scores_of(model: Classifier, image_set: ImageSet, settings: Params) -> dict[str, np.ndarray]:
    """Scores of a whole set by the detectors that need images, float64 (n,), by the detector with its arguments."""
    found = {}
    for name, choices in settings.detectors.items():
        for options in combinations(choices):
            detector = image_detectors.build(name, options, lambda images: model(images)[0])
            chunks = image_set.pixels.split(settings.batch)
            parts = [detector(as_images(chunk.to(model.mean.device))).double().cpu() for chunk in chunks]
            found[label(name, options)] = torch.cat(parts).numpy()
    return found


def outputs_of(model: Classifier, own: str, image_set: ImageSet, settings: Params) -> Outputs:
    """Logits, features and scores of a whole set; `own` is the score the model ships with."""
    logits, features = predict(model, image_set.pixels, settings.batch)
    scores = {"own": SCORES[own](logits, features, model.head.weight.cpu()).numpy()}
    scores |= scores_of(model, image_set, settings)
    return Outputs(image_set.keys, image_set.labels, logits, features, scores)


def at_most(count: int | None, image_set: ImageSet) -> ImageSet:
    """`count` of the images, evenly; all if there are no more, or for None."""
    if count is None or count >= len(image_set):
        return image_set
    rows = images.evenly(count, len(image_set))
    keys = [image_set.keys[row] for row in rows.tolist()]
    return replace(image_set, pixels=image_set.pixels[rows], labels=image_set.labels[rows], keys=keys)


def load_sets(settings: Params) -> list[tuple[str, ImageSet]]:
    """Every image set by name: the ID splits, the OOD sets, and decoded ID images where the controls bring them."""
    paths = [IMAGES / f"{split}.parquet" for split in SPLITS] + images.ood_sets(IMAGES)
    decoded = Path(params.read("train.controls", str)) / "decoded-test.parquet"
    sets = {path.stem: images.load(path) for path in [*paths, *([decoded] if decoded.exists() else [])]}
    sets["train"] = at_most(settings.train_images, sets["train"])
    return list(sets.items())


def model_folders() -> list[Path]:
    """The folders of every recipe's trained models.

    Raises:
        UserError: a recipe has none.
    """
    found: list[Path] = []
    for recipe in params.read("recipes", dict):
        folders = sorted((CLASSIFIERS / recipe).glob("s*"), key=lambda folder: int(folder.name[1:]))
        if not folders:
            raise UserError(f"{CLASSIFIERS / recipe}: no trained model; run `dvc repro train@{recipe}`, or `dvc pull`")
        found += folders
    return found


def main() -> None:
    settings, folders = params.read("infer", Params), model_folders()
    sets = load_sets(settings)
    with replacing(OUTPUTS) as target:
        for folder in track(folders, "infer", len(folders)):
            _infer(folder, target / folder.parent.name / folder.name, sets, settings)
    say(f"infer: {len(folders)} models, {len(sets)} sets, {sum(len(found) for _, found in sets)} images")


def _infer(model_folder: Path, target: Path, sets: list[tuple[str, ImageSet]], settings: Params) -> None:
    model = models.load(Classifier, model_folder).to(Accelerator().device)
    own = read_json(model_folder / "detector.json")["score"]
    for name, image_set in sets:
        outputs.write(outputs.path_of(target, name, image_set.role), outputs_of(model, own, image_set, settings))
    outputs.write_head(target / "head.parquet", Head(model.head.weight.cpu(), model.head.bias.cpu()))
