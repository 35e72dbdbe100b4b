"""Train the teacher, a plain classifier of the ID classes, and the pretrained classifiers that recipes may start from.

Reads: data/images/{train,val}.parquet.
Writes: data/models/teacher (config.json, model.safetensors; pretrained/s<seed>, classifiers of other seeds).
Why: it filters outliers and is distilled from; something must tell an outlier from one more ID image before any
OOD-aware classifier exists.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline.artifacts import images
from pipeline.artifacts.images import ImageFile
from pipeline.classifier.fitting import Run, build_classifier, form_of, loader, train_classifier
from pipeline.classifier.networks import Classifier, accuracy, predict
from pipeline.classifier.objective import Objective
from pipeline.runtime.console import log
from pipeline.runtime.files import atomic_write_together
from pipeline.runtime.layout import IMAGES, MODELS
from pipeline.runtime.processes import is_first
from pipeline.runtime.resumable import hashes_of
from pipeline.settings import params
from pipeline.settings.recipes import Terms
from pipeline.settings.teacher import TeacherSettings
from pipeline.synthesis.randomness import generator
from pipeline.training.augmentation import augmentation
from pipeline.training.loaders import Loader


def train(seed: int, settings: TeacherSettings, train_file: ImageFile, data: Loader, checkpoint: Path) -> Classifier:
    """A classifier by cross-entropy alone, its weights and batches drawn from the seed."""
    terms = Terms()
    model = build_classifier(settings, seed, terms.head.model_dump(), form_of(train_file, data))
    run = Run(f"teacher seed {seed}", seed, checkpoint, hashes_of(train_file.path))
    train_classifier(model, [data], Objective(terms, model.head), settings, run)
    return model


def seeds(seed: int, pretrained: Sequence[int]) -> dict[str, int]:
    """Where below data/models/teacher each classifier goes -> its seed.

    The teacher's is drawn from the run's, so that no student starts from the weights that it is distilled from.
    """
    own = int(generator(seed, "teacher", 0).integers(2**31))
    return {".": own} | {f"pretrained/s{other}": other for other in pretrained}


def main() -> None:
    settings, seed = params.read("teacher", TeacherSettings), params.read("seed", int)
    train_file, val_set = ImageFile(IMAGES / "train.parquet"), images.load_split(IMAGES, "val")
    data = loader(settings, train_file, settings.batch, augmentation(settings, val_set.pixels.shape[-1]))
    checkpoints = []
    with atomic_write_together(MODELS / "teacher") as folder:
        for place, own in seeds(seed, settings.pretrained_seeds).items():
            checkpoints.append(MODELS / f".teacher-s{own}.checkpoint")
            model = train(own, settings, train_file, data, checkpoints[-1])
            if not is_first():
                continue
            model.save_pretrained(folder / place)
            right = accuracy(predict(model, val_set.pixels, settings.batch)[0], val_set.labels)
            log(f"teacher: seed {own}: {right:.1%} of validation images right")
    for checkpoint in checkpoints:
        checkpoint.unlink(missing_ok=True)
