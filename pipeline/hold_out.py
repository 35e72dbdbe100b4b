"""Keep some classes aside, train without them, and see whether their images are noticed.

Reads: what `train` reads, data/images/hold_out.json, and test images and OOD sets, or their features.
Writes: data/hold_out/RECIPE/s<seed>-SPLIT (scores.parquet, about.json); metrics/hold_out.json, what all splits together
say.
Why: a class that was left out differs from the others in nothing but being unknown, in no camera and no sharpness, and
needs no OOD image. Nothing is made unless `prepare.folder.hold_out` asks for it.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline.artifacts import images, outputs
from pipeline.artifacts.outputs import Outputs
from pipeline.artifacts.roles import OOD_LABEL, Role
from pipeline.classifier.networks import Classifier, head_of
from pipeline.classifier.training_data import Labelled, SomeClasses
from pipeline.evaluation import held_out
from pipeline.evaluation.deployed import Score
from pipeline.evaluation.scoring import score_model
from pipeline.recipes.inputs import TrainingInputs, open_file
from pipeline.recipes.shipping import detector
from pipeline.recipes.training import Training, plan, train
from pipeline.runtime.closure import code_of
from pipeline.runtime.console import log
from pipeline.runtime.files import atomic_write, read_json, remove_others, write_json
from pipeline.runtime.layout import HOLD_OUT, IMAGES, METRICS_DIR
from pipeline.runtime.resumable import hashes_of
from pipeline.settings import params
from pipeline.settings.recipes import Recipes
from pipeline.settings.score import ScoreSettings
from pipeline.settings.train import TrainSettings

NEAR, VAL_NEAR = "held-out", "held-out-val"  # names of the sets


@dataclass(frozen=True)
class Split:
    """A split: the places of its classes among all."""

    number: int
    near: list[int]
    val_near: list[int]
    kept: list[int]

    def folder(self, one: Training) -> Path:
        """Where the scores of a training of this split are written."""
        return HOLD_OUT / one.name / f"s{one.seed}-{self.number}"


def read_splits(classes: list[str]) -> list[Split]:
    """The splits that `prepare` drew."""
    found = []
    for number, own in enumerate(read_json(IMAGES / "hold_out.json")):
        near, val_near = ([classes.index(name) for name in own[key]] for key in ("near", "val_near"))
        kept = [label for label in range(len(classes)) if label not in {*near, *val_near}]
        found.append(Split(number, near, val_near, kept))
    return found


def sets_of(split: Split, common: TrainingInputs) -> Iterator[tuple[str, Role, Labelled]]:
    """Every set that is scored: name, role and images."""
    whole: Any = {name: open_file(name, common.settings.on_features) for name in ("val", "test")}
    for name in ("val", "test"):
        yield name, "id", SomeClasses(whole[name], split.kept)
    yield NEAR, "near", SomeClasses(whole["test"], split.near)
    if split.val_near:  # not the training images: what they have in common with others of their day would show
        yield VAL_NEAR, "val-near", SomeClasses(whole["val"], split.val_near)
    for path in images.ood_sets(IMAGES):
        own = open_file(f"ood/{path.stem}", common.settings.on_features)
        yield path.stem, own.role, own


def write_outputs(folder: Path, model: Classifier, split: Split, common: TrainingInputs) -> dict[str, list[str]]:
    """The outputs of a model on every set, as `infer` writes them; returns the classes of each set's images."""
    score = Score(detector(model, common)[0], head_of(model))
    classes: dict[str, list[str]] = {}
    outputs.write(outputs.path_of(folder, "train", "id"), [common.data.outputs(model, common.data.train)])
    for name, role, data in sets_of(split, common):
        if not data.sizes:  # where splits were given, a class may have no image in one
            continue
        found = common.data.outputs(model, data)
        classes[name] = [data.classes[label] if label >= 0 else "" for label in found.labels.tolist()]
        outputs.write(outputs.path_of(folder, name, role), [_scored(found, score, role)])
    outputs.write_head(folder / "head.parquet", head_of(model))
    return classes


def _scored(part: Outputs, score: Score, role: Role) -> Outputs:
    assert part.features is not None
    own, p, _ = score(part.logits, part.features)
    labels = part.labels if role == "id" else torch.full_like(part.labels, OOD_LABEL)
    return Outputs(part.keys, labels, part.logits, part.features, {"own": own.numpy(), "p_value": p.numpy()})


def make(one: Training, split: Split, common: TrainingInputs, detectors: dict[str, Any]) -> None:
    """Train a classifier without the split's classes and write what every detector says of every image."""
    checkpoint = HOLD_OUT.with_name(f".hold_out-{one.name}-s{one.seed}-{split.number}.checkpoint")
    model = train(one, common, checkpoint, lambda row: None)
    temporary = HOLD_OUT.with_name(".hold_out.outputs")
    shutil.rmtree(temporary, ignore_errors=True)
    classes = write_outputs(temporary, model, split, common)
    files = outputs.find(temporary)
    found = score_model(files, outputs.load_head(temporary), detectors)
    scores = found.scores.assign(of_class=np.concatenate([classes[name] for name in files if name != "train"]))
    with atomic_write(split.folder(one)) as folder:
        folder.mkdir()
        scores.to_parquet(folder / "scores.parquet", index=False)
        about = {"made_from": one.digest, "accuracy": found.accuracy["test"], "arguments": found.chosen}
        write_json(folder / "about.json", about)
    shutil.rmtree(temporary)
    checkpoint.unlink(missing_ok=True)


def is_done(one: Training, split: Split) -> bool:
    """There are scores that were made from the same."""
    path = split.folder(one) / "about.json"
    return path.is_file() and read_json(path).get("made_from") == one.digest


def obstacle(one: Training, settings: TrainSettings) -> str | None:
    """Why a recipe cannot be trained on some of the classes; None where it can."""
    if settings.init_from == "pretrained":
        return "the classifiers that it starts from have seen all classes"
    if one.recipe.needs_teacher:
        return "its teacher has seen all classes"
    if one.recipe.micl is not None or (one.selection is not None and one.selection.has_id_images):
        return "micl and further ID images are made for all classes"
    return None


def read(one: Training, split: Split) -> pd.DataFrame:
    """The scores of a training, with its recipe, seed, split and accuracy."""
    folder = split.folder(one)
    about = {"recipe": one.name, "seed": one.seed, "split": split.number}
    about["accuracy"] = read_json(folder / "about.json")["accuracy"]
    return pd.read_parquet(folder / "scores.parquet").assign(**about)


def trainings(settings: TrainSettings, recipes: Recipes, made_from: Any) -> Iterator[tuple[Training, Split, Any]]:
    """Every training of every split, with what it is trained on; what is left out is said."""
    classes = TrainingInputs(settings).train_file.classes
    for split in read_splits(classes):
        if not SomeClasses(open_file("test", settings.on_features), split.near).sizes:
            log(f"hold_out: no test image of {', '.join(classes[label] for label in split.near)}; split left out")
            continue
        common = TrainingInputs(settings, split.kept)
        for name, recipe in recipes.items():
            planned = plan(name, recipe, common, [made_from, split.near, split.val_near])
            if (why := obstacle(planned[0], settings)) is None:
                yield from ((one, split, common) for one in planned)
            elif split.number == 0:
                log(f"hold_out: {name}: left out, for {why}")


def main() -> None:
    settings, detectors = params.read("train", TrainSettings), params.read("score", ScoreSettings).detectors
    made_from = [code_of("pipeline.hold_out"), detectors, settings.score, hashes_of(IMAGES)]
    found = []
    for one, split, common in trainings(settings, params.read("recipes", Recipes), made_from):
        if not is_done(one, split):
            make(one, split, common, detectors)
        found.append((one, split))
    HOLD_OUT.mkdir(parents=True, exist_ok=True)
    remove_others(HOLD_OUT, {str(split.folder(one).relative_to(HOLD_OUT)) for one, split in found})
    summary = held_out.summarise(pd.concat([read(*pair) for pair in found])) if found else {}
    with atomic_write(METRICS_DIR / "hold_out.json") as path:
        write_json(path, summary)
    for name, own in summary.items():
        log(f"hold_out: {name}: {held_out.in_words(own)}")
