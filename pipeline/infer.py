"""Cache logits and features of every image for every trained model.

Reads: data/images, data/models/recipes, data/controls/decoded-test.parquet if there is one.
Writes: data/outputs/RECIPE/s<seed>/, see artifacts/outputs.py, with the score the model ships with (`own`) and those of
detectors that need images.
Why: scoring can then change and rerun in seconds, without a network or a GPU.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.artifacts import images, models, outputs
from pipeline.artifacts.chunks import Chunk, by_file, chunks_of
from pipeline.artifacts.images import ImageFile
from pipeline.artifacts.outputs import SPLITS, Head, Outputs
from pipeline.classifier.networks import Classifier, predict
from pipeline.classifier.scores import SCORES
from pipeline.evaluation import image_detectors
from pipeline.evaluation.grid import combinations, label
from pipeline.runtime.console import log
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import atomic_write, read_json
from pipeline.runtime.layout import CLASSIFIERS, IMAGES, OUTPUTS
from pipeline.runtime.processes import is_first, pick_device
from pipeline.runtime.resumable import FinishedParts, fingerprint, resumable
from pipeline.settings import params
from pipeline.settings.infer import InferSettings
from pipeline.training.batches import as_images


@dataclass(frozen=True)
class Model:
    """A trained classifier by its name, RECIPE/s<seed>, and the score it ships with."""

    name: str
    classifier: Classifier
    own: str


def load_pieces(settings: InferSettings) -> list[Chunk]:
    """The pieces of every image set: ID splits, OOD sets, and decoded ID images where the controls bring them."""
    paths = [IMAGES / f"{split}.parquet" for split in SPLITS] + images.ood_sets(IMAGES)
    decoded = Path(params.read("train.controls", str)) / "decoded-test.parquet"
    files = [ImageFile(path) for path in [*paths, *([decoded] if decoded.exists() else [])]]
    counts = [settings.train_images if file.path == IMAGES / "train.parquet" else None for file in files]
    return [piece for file, count in zip(files, counts, strict=True) for piece in chunks_of(file, count)]


def scores_of(model: Classifier, pixels: Tensor, settings: InferSettings) -> dict[str, Tensor]:
    """Scores of images by the detectors that need images, float64 (n,), by the detector with its arguments."""
    found = {}
    for name, choices in settings.detectors.items():
        for options in combinations(choices):
            detector = image_detectors.build(name, options, lambda images: model(images)[0])
            chunks = pixels.split(settings.batch)
            scores = [detector(as_images(chunk.to(model.mean.device))).double().cpu() for chunk in chunks]
            found[label(name, options)] = torch.cat(scores)
    return found


def outputs_of(model: Model, pixels: Tensor, settings: InferSettings) -> dict[str, Tensor]:
    """Columns of a model's outputs on some images, by name."""
    logits, features = predict(model.classifier, pixels, settings.batch)
    own = SCORES[model.own](logits, features, model.classifier.head.weight.cpu())
    scores = {"own": own} | scores_of(model.classifier, pixels, settings)
    return {"logits": logits, "features": features} | {f"score {name}": values for name, values in scores.items()}


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


def load_model(folder: Path) -> Model:
    """A trained model from its folder, on the device."""
    classifier = models.load(Classifier, folder).to(pick_device())
    name = f"{folder.parent.name}/{folder.name}"
    return Model(name, classifier, read_json(folder / "detector.json")["score"])


def write(found: list[Model], pieces: list[Chunk], made: FinishedParts) -> None:
    """Write the outputs of every model on every set, a piece at a time."""
    with atomic_write(OUTPUTS) as target:
        for model in found:
            for file, own in by_file(pieces):
                parts_of = (_part(piece, made.load(i, f"{model.name} ")) for i, piece in own)
                outputs.write(outputs.path_of(target / model.name, file.path.stem, file.role), parts_of)
            head = model.classifier.head
            outputs.write_head(target / model.name / "head.parquet", Head(head.weight.cpu(), head.bias.cpu()))


def _part(piece: Chunk, columns: dict[str, Tensor]) -> Outputs:
    logits, features = columns.pop("logits"), columns.pop("features")
    scores = {name.removeprefix("score "): values.numpy() for name, values in columns.items()}
    return Outputs(*piece.names(), logits, features, scores)


def main() -> None:
    settings, folders = params.read("infer", InferSettings), model_folders()
    found, pieces = [load_model(folder) for folder in folders], load_pieces(settings)

    def make(i: int) -> dict[str, Tensor]:
        pixels = pieces[i].images()
        columns = {model.name: outputs_of(model, pixels, settings) for model in found}
        return {f"{name} {column}": values for name, own in columns.items() for column, values in own.items()}

    inputs = fingerprint(*folders, *(file.path for file, _ in by_file(pieces)))
    identity = {"settings": settings.model_dump(), "models": [model.name for model in found], "inputs": inputs}
    with resumable(OUTPUTS.with_name(".outputs.parts"), identity, len(pieces), make, "infer") as made:
        if is_first():
            write(found, pieces, made)
    log(f"infer: {len(found)} models, {sum(len(piece.rows) for piece in pieces)} images")
