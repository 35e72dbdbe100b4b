"""Train the teacher, a plain classifier of the ID classes.

Reads: data/images/{train,val}.parquet.
Writes: data/models/teacher (config.json, model.safetensors).
Why: it filters outliers and is distilled from; something must tell an outlier from one more ID image before any
OOD-aware classifier exists.
"""

from pathlib import Path

from pipeline import params
from pipeline.artifacts import images, models
from pipeline.artifacts.files import replacing
from pipeline.artifacts.images import ImageFile
from pipeline.artifacts.layout import IMAGES, MODELS
from pipeline.artifacts.parts import fingerprint
from pipeline.console import say
from pipeline.learning.networks import accuracy, load_pretrained, predict
from pipeline.learning.objective import Objective, Terms
from pipeline.learning.training import Kept, Training, train_classifier, untrained

CHECKPOINT = MODELS / ".teacher.checkpoint"


class Params(Training):
    weights: str | None
    revision: str | None


def start_from(settings: Params) -> Path | None:
    """The file of pretrained weights that the settings name."""
    if settings.weights is None:
        return None
    models.check_revision(settings.weights, settings.revision)
    return models.weights_file(settings.weights, settings.revision)


def main() -> None:
    settings, seed = params.read("teacher", Params), params.read("seed", int)
    train_file, val_set = ImageFile(IMAGES / "train.parquet"), images.load_split(IMAGES, "val")
    pool, terms = settings.pool(train_file, settings.batch), Terms()
    about = (train_file.classes, train_file.preprocessing)
    model = untrained(settings, seed, terms.head.model_dump(), pool, *about)
    if (weights := start_from(settings)) is not None:
        load_pretrained(model, settings.network, weights)
    objective = Objective(terms, model)
    train_classifier(
        model, [pool], objective, settings, seed, "teacher", Kept(CHECKPOINT, fingerprint(train_file.path))
    )
    with replacing(MODELS / "teacher") as folder:
        model.save_pretrained(folder)
    CHECKPOINT.unlink(missing_ok=True)
    right = accuracy(predict(model, val_set.pixels, settings.batch)[0], val_set.labels)
    say(f"teacher: {right:.1%} of validation images right")
