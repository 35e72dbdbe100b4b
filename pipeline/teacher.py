"""Train the teacher, a plain classifier of the ID classes.

Reads: data/images/{train,val}.parquet.
Writes: data/models/teacher (config.json, model.safetensors).
Why: it filters outliers and is distilled from; something must tell an outlier from one more ID image before any
OOD-aware classifier exists.
"""

from pipeline import params
from pipeline.artifacts import images
from pipeline.artifacts.files import replacing
from pipeline.artifacts.layout import IMAGES, MODELS
from pipeline.console import say
from pipeline.learning.networks import predict
from pipeline.learning.objective import objective
from pipeline.learning.training import Training, accuracy, train_classifier


def main() -> None:
    settings, seed = params.read("teacher", Training), params.read("seed", int)
    train_set, val_set = images.load_split(IMAGES, "train"), images.load_split(IMAGES, "val")
    model, _ = train_classifier(train_set, None, objective(), settings, seed, "teacher")
    with replacing(MODELS / "teacher") as folder:
        model.save_pretrained(folder)
    right = accuracy(predict(model, val_set.pixels, settings.batch)[0], val_set.labels)
    say(f"teacher: {right:.1%} of validation images right")
