"""Cache logits and features of every image for every trained model.

Reads: data/images, data/models/recipes, data/controls/decoded-test.parquet if there is one.
Writes: data/outputs/RECIPE/s<seed>/<set>.parquet (logits and features) and head.parquet.
Why: scoring can then change and rerun in seconds, without a network or a GPU.
"""

from pathlib import Path

from accelerate import Accelerator
from pydantic import PositiveInt

from pipeline import params
from pipeline.artifacts import images, models, outputs
from pipeline.artifacts.files import replacing
from pipeline.artifacts.images import ImageSet
from pipeline.artifacts.layout import CLASSIFIERS, IMAGES, OUTPUTS
from pipeline.artifacts.outputs import Head, Outputs
from pipeline.console import say, track
from pipeline.errors import UserError
from pipeline.learning.networks import Classifier, predict


class Params(params.Section):
    batch: PositiveInt


def outputs_of(model: Classifier, image_set: ImageSet, batch: int) -> Outputs:
    """Logits and features of a whole set."""
    logits, features = predict(model, image_set.pixels, batch)
    return Outputs(image_set.keys, image_set.labels, logits, features, image_set.role)


def load_sets() -> dict[str, ImageSet]:
    """Every image set by name: the ID splits, the OOD sets, and decoded ID images where the controls bring them."""
    paths = [IMAGES / f"{split}.parquet" for split in ("train", "val", "test")] + images.ood_sets(IMAGES)
    decoded = Path(params.read("train.controls", str)) / "decoded-test.parquet"
    return {path.stem: images.load(path) for path in [*paths, *([decoded] if decoded.exists() else [])]}


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
    settings, folders, sets = params.read("infer", Params), model_folders(), load_sets()
    with replacing(OUTPUTS) as target:
        for folder in track(folders, "infer", len(folders)):
            _infer(folder, target / folder.parent.name / folder.name, sets, settings.batch)
    say(f"infer: {len(folders)} models, {len(sets)} sets, {sum(map(len, sets.values()))} images")


def _infer(model_folder: Path, target: Path, sets: dict[str, ImageSet], batch: int) -> None:
    model = models.load(Classifier, model_folder).to(Accelerator().device)
    for name, image_set in sets.items():
        outputs.write(target / f"{name}.parquet", outputs_of(model, image_set, batch))
    outputs.write_head(target / "head.parquet", Head(model.head.weight.cpu(), model.head.bias.cpu()))
