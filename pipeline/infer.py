"""Cache logits and features of every image for every trained model.

Reads: data/images and data/controls/decoded-test.parquet if there is one, or data/features; data/models/recipes.
Writes: data/outputs/RECIPE/s<seed>/, see artifacts/outputs.py, with the score the model ships with (`own`) and those of
detectors that need images.
Why: scoring can then change and rerun in seconds, without a network or a GPU.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.artifacts import detector as detectors
from pipeline.artifacts import features, images, models, outputs
from pipeline.artifacts.chunks import Chunk, by_file, chunks_of
from pipeline.artifacts.features import FeatureFile
from pipeline.artifacts.images import ImageFile
from pipeline.artifacts.outputs import SPLITS, Head, Outputs
from pipeline.classifier.networks import Classifier, head_of, predict
from pipeline.classifier.training_data import LastLayers
from pipeline.evaluation import image_detectors
from pipeline.evaluation.deployed import Score
from pipeline.evaluation.grid import combinations, label
from pipeline.runtime.closure import code_of
from pipeline.runtime.console import log
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import atomic_write, read_json, remove_others, write_json
from pipeline.runtime.layout import CLASSIFIERS, FEATURES, IMAGES, OUTPUTS
from pipeline.runtime.processes import is_first, pick_device, wait
from pipeline.runtime.resumable import FinishedParts, digest_of, hashes_of, resumable
from pipeline.settings import needs, params
from pipeline.settings.infer import InferSettings
from pipeline.training.batches import as_images


@dataclass(frozen=True)
class Model:
    """A trained classifier.

    Attributes:
        name: RECIPE/s<seed>.
        network: the classifier, or what of it comes after a frozen network.
        head: its last layer.
        score: the one that it ships with.
        digest: of all that its outputs are made from.
    """

    name: str
    network: nn.Module
    head: Head
    score: Score
    digest: str

    @property
    def folder(self) -> Path:
        """Where its outputs are written."""
        return OUTPUTS / self.name

    @property
    def is_done(self) -> bool:
        """There are outputs that were made from the same."""
        path = self.folder / "outputs.json"
        return path.is_file() and read_json(path).get("made_from") == self.digest


def load_chunks(settings: InferSettings) -> list[Chunk]:
    """The chunks of every image set: ID splits, OOD sets, and decoded ID images where the controls bring them.

    Of a frozen network they are its features of these.
    """
    if needs.feature_files():
        files: list[Any] = [FeatureFile(path) for path in features.of_images(FEATURES)]
    else:
        paths = [IMAGES / f"{split}.parquet" for split in SPLITS] + images.ood_sets(IMAGES)
        decoded = Path(params.read("train.controls", str)) / "decoded-test.parquet"
        files = [ImageFile(path) for path in [*paths, *([decoded] if decoded.exists() else [])]]
    counts = [settings.train_images if file.path.stem == "train" else None for file in files]
    return [chunk for file, count in zip(files, counts, strict=True) for chunk in chunks_of(file, count)]


def image_scores(model: nn.Module, pixels: Tensor, settings: InferSettings) -> dict[str, Tensor]:
    """Scores of images by the detectors that need images, float64 (n,), by the detector with its arguments."""
    found, device = {}, pick_device()
    for name, choices in settings.detectors.items():
        for options in combinations(choices):
            detector = image_detectors.build(name, options, lambda images: model(images)[0])
            batches = pixels.split(settings.batch)
            scores = [detector(as_images(batch.to(device))).double().cpu() for batch in batches]
            found[label(name, options)] = torch.cat(scores)
    return found


def outputs_of(model: Model, values: Tensor, settings: InferSettings) -> dict[str, Tensor]:
    """Columns of a model's outputs on some images, or on a frozen network's features of them, by name."""
    logits, embedded = predict(model.network, values, settings.batch)
    scores = {"own": model.score(logits, embedded)[0]} | image_scores(model.network, values, settings)
    return {"logits": logits, "features": embedded} | {f"score {name}": column for name, column in scores.items()}


def model_folders() -> list[Path]:
    """The folders of every recipe's trained models.

    Raises:
        UserError: a recipe has none.
    """
    found: list[Path] = []
    for recipe in params.read("recipes", dict):
        folders = sorted((CLASSIFIERS / recipe).glob("s*"), key=lambda folder: int(folder.name[1:]))
        if not folders:
            raise UserError(f"{CLASSIFIERS / recipe}: no trained model; run `dvc repro train`, or `dvc pull`")
        found += folders
    return found


def load_model(folder: Path, common: dict[str, Any]) -> Model:
    """A trained model from its folder, on the device; `common` is what the outputs of all models are made from."""
    classifier = models.load(Classifier, folder).to(pick_device())
    head = head_of(classifier)
    score = Score(detectors.read(*(folder / name for name in detectors.FILES)), head)
    network = LastLayers(classifier) if needs.feature_files() else classifier
    digest = digest_of(common | {"model": hashes_of(folder)})
    return Model(f"{folder.parent.name}/{folder.name}", network, head, score, digest)


def write(model: Model, chunks: list[Chunk], made: FinishedParts) -> None:
    """Write the outputs of a model on every set, a chunk at a time."""
    with atomic_write(model.folder) as target:
        for file, own in by_file(chunks):
            parts = (_part(chunk, made.load(i, f"{model.name} ")) for i, chunk in own)
            outputs.write(outputs.path_of(target, file.path.stem, file.role), parts)
        outputs.write_head(target / "head.parquet", model.head)
        write_json(target / "outputs.json", {"made_from": model.digest})


def _part(chunk: Chunk, columns: dict[str, Tensor]) -> Outputs:
    logits, embedded = columns.pop("logits"), columns.pop("features")
    scores = {name.removeprefix("score "): values.numpy() for name, values in columns.items()}
    return Outputs(*chunk.names(), logits, embedded, scores)


def main() -> None:
    settings, chunks = params.read("infer", InferSettings), load_chunks(params.read("infer", InferSettings))
    sets = [file.path for file, _ in by_file(chunks)]
    common = {
        "settings": settings.model_dump(),
        "sets": list(map(str, sets)),
        "images": hashes_of(*sets),
        "code": code_of("pipeline.infer"),
    }
    found = [load_model(folder, common) for folder in model_folders()]
    left = [model for model in found if not model.is_done]

    def make(i: int) -> dict[str, Tensor]:
        pixels = chunks[i].images()
        columns = {model.name: outputs_of(model, pixels, settings) for model in left}
        return {f"{name} {column}": values for name, own in columns.items() for column, values in own.items()}

    identity = [[model.name, model.digest] for model in left]
    wait()  # until every process has looked
    with resumable(OUTPUTS.with_name(".outputs.parts"), identity, len(chunks) if left else 0, make, "infer") as made:
        if is_first():
            for model in left:
                write(model, chunks, made)
            remove_others(OUTPUTS, {model.name for model in found})
    taken = f", {len(found) - len(left)} taken over" if len(left) < len(found) else ""
    log(f"infer: {len(found)} models{taken}, {sum(len(chunk.rows) for chunk in chunks)} images")
