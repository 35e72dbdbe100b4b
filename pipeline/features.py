"""Compute the features of every image once, where recipes are trained on those of a frozen network.

Reads: data/images, data/outliers, data/controls, and the weights that `train.weights` names.
Writes: data/features/{train,val,test}.arrow, ood/SET.arrow, and outliers.arrow and controls.arrow of the datasets;
nothing unless train.backbone is `frozen`.
Why: a network that does not learn says the same of an image every time; a head is then trained in a second.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.artifacts import features, images, outliers, pretrained
from pipeline.artifacts.chunks import Chunk, chunks_of
from pipeline.artifacts.images import ImageFile
from pipeline.artifacts.selection import Selection
from pipeline.classifier.fitting import Form, build_classifier
from pipeline.classifier.networks import Classifier, at_once
from pipeline.classifier.training_data import shape_of
from pipeline.runtime.console import log
from pipeline.runtime.files import atomic_write
from pipeline.runtime.layout import FEATURES, IMAGES
from pipeline.runtime.processes import is_first, pick_device
from pipeline.runtime.resumable import FinishedParts, Part, hashes_of, resumable
from pipeline.settings import params
from pipeline.settings.features import FeaturesSettings
from pipeline.settings.train import TrainSettings
from pipeline.training.batches import as_images

DATASETS = ("outliers", "controls")


@dataclass(frozen=True)
class Shard:
    """A shard of an outlier dataset."""

    selection: Selection
    piece: int

    def images(self) -> Tensor:
        """Pixels, uint8 (n, channels, size, size)."""
        return self.selection.load(self.piece)[0]

    def names(self) -> tuple[list[str], Tensor]:
        """Keys and labels."""
        return self.selection.names(self.piece)


Source = tuple[dict, list[Chunk | Shard]]  # metadata of a file, and what its rows are of


def sources(settings: TrainSettings) -> dict[str, Source]:
    """What features are computed of, by the name of the file that they go to."""
    paths = [IMAGES / f"{split}.parquet" for split in ("train", "val", "test")] + images.ood_sets(IMAGES)
    decoded = Path(settings.controls) / "decoded-test.parquet"
    found: dict[str, Source] = {}
    for path in [*paths, *([decoded] if decoded.is_file() else [])]:
        file = ImageFile(path)
        name = f"ood/{path.stem}" if path.parent.name == "ood" else path.stem
        found[name] = features.about_images(file), list(chunks_of(file))
    for name in DATASETS:
        folder = Path(getattr(settings, name))
        counts = {method: own["packed"] for method, own in outliers.verify(folder)["methods"].items()}
        selection = Selection([folder], counts)
        found[name] = {}, [Shard(selection, piece) for piece in range(len(selection.sizes))]
    return found


def network(settings: TrainSettings) -> Classifier:
    """The frozen network, in a classifier whose head is not used."""
    file = ImageFile(IMAGES / "train.parquet")
    shape = shape_of(file)
    statistics = [0.5] * shape[0]
    form = Form(file.classes, shape, file.preprocessing, lambda: (statistics, statistics), lambda: file.load(0)[0])
    return build_classifier(settings, 0, {"kind": "linear"}, form).eval().requires_grad_(False)


@torch.inference_mode()
def embed(model: Classifier, pixels: Tensor, batch: int) -> Tensor:
    """Features, float32 (n, d) on the CPU: in float32, as `predict` computes them."""
    device = pick_device()
    return torch.cat(
        [
            model.embed(as_images(part.to(device)).contiguous(memory_format=torch.channels_last)).float().cpu()
            for part in pixels.split(at_once(pixels[0].numel(), batch, device))
        ]
    )


def write(found: dict[str, Source], made: FinishedParts) -> None:
    """Write every file."""
    with atomic_write(FEATURES) as folder:
        folder.mkdir()
        start = 0
        for name, (about, pieces) in found.items():
            own = range(start, start + len(pieces))
            start = own.stop
            if own:
                parts = ((*piece.names(), made[i]["features"]) for i, piece in zip(own, pieces, strict=True))
                features.write(folder / f"{name}.arrow", parts, about)


def main() -> None:
    train, settings = params.read("train", TrainSettings), params.read("features", FeaturesSettings)
    found, model = sources(train), network(train)
    pieces = [piece for _, own in found.values() for piece in own]

    def make(i: int) -> Part:
        return {"features": embed(model, pieces[i].images(), settings.batch)}

    given = pretrained.find(train)
    inputs = [IMAGES, *(Path(getattr(train, name)) for name in DATASETS), *([given.path] if given else [])]
    identity = [train.network, settings.batch, hashes_of(*inputs)]
    with resumable(FEATURES.with_name(".features.parts"), identity, len(pieces), make, "features") as made:
        if is_first():
            write(found, made)
    log(f"features: {sum(len(piece.names()[0]) for piece in pieces)} images, {model.backbone.num_features} each")
