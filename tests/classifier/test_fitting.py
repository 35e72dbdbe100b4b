import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.artifacts.images import ImageSet, Preprocessing
from pipeline.classifier import fitting
from pipeline.classifier.fitting import Form, Run, build_classifier, collapse, loader, train_classifier
from pipeline.classifier.micl import PartnerBank
from pipeline.classifier.networks import Classifier, accuracy, predict
from pipeline.classifier.objective import Objective
from pipeline.classifier.virtual import VirtualOutliers
from pipeline.runtime.errors import UserError
from pipeline.settings.recipes import Terms
from pipeline.settings.training import TrainingSettings
from pipeline.training import loop
from pipeline.training.augmentation import Shift
from pipeline.training.loaders import Loader
from pipeline.training.loop import Row

EVERYTHING = {
    "head": {"kind": "adacos"},
    "outlier_exposure": {"weight": 1.0, "temperature": 1.0},
    "logit_distillation": {"weight": 1.0, "temperature": 2.0},
    "feature_distillation": {"weight": 1.0},
    "micl": {"weight": 0.1, "estimator": "club", "fitting_steps": 2, "learning_rate": 1e-3},
}
ATTRIBUTED = {
    "virtual_outliers": {"kind": "attribution", "share": 0.1, "step": [1.0, 0.1], "sign": "plus"},
    "outlier_exposure": {"weight": 0.1, "temperature": 1.0},
}
MIXED = ATTRIBUTED | {"virtual_outliers": {"kind": "mixture", "ratio": [0.3, 0.7]}}


AUGMENT = Shift(shift=1, flip=True)


class Killed(BaseException):
    """What no handler of the project catches."""


def settings(**changes: object) -> TrainingSettings:
    values = {
        "network": "wrn-10-1", "steps": 40, "batch": 16, "learning_rate": 0.05, "weight_decay": 0.0, "warmup": 2,
        "shift": 1, "flip": True, "ema": 0.0, "precision": "float32", "compile": False, "in_memory": True,
        "checkpoint_every": 7, "weights": None, "revision": None, "backbone": "all", "backbone_learning_rate": None,
        "augmentation": "shift",
    }  # fmt: skip
    return TrainingSettings.model_validate(values | changes)


def stripes(n: int = 64) -> ImageSet:
    """Two classes anyone can tell apart: horizontal and vertical stripes."""
    pixels = torch.zeros(n, 1, 16, 16, dtype=torch.uint8)
    pixels[::2, :, ::4], pixels[1::2, :, :, ::4] = 255, 255
    return ImageSet(pixels, torch.arange(n) % 2, [str(i) for i in range(n)], ["across", "down"], "id")


class InPieces:
    """An image set as training reads it, two pieces."""

    def __init__(self, pixels: torch.Tensor, labels: torch.Tensor):
        self.parts = list(zip(pixels.split(32), labels.split(32), strict=True))
        self.sizes = [len(labels) for _, labels in self.parts]

    def load(self, piece: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.parts[piece]


def outliers() -> torch.Tensor:
    return torch.randint(0, 256, (64, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Toy:
    """A training of the stripes, as `train` puts it together."""

    def __init__(self, folder: Path, recipe: dict[str, object], seed: int = 0, **changes: object):
        self.settings, terms = settings(**changes), Terms.model_validate(recipe)
        known = stripes()
        self.loaders: list[Loader] = [loader(self.settings, InPieces(known.pixels, known.labels), 16, AUGMENT)]
        if terms.shows_outliers:
            self.loaders.append(loader(self.settings, InPieces(outliers(), torch.full((64,), -1)), 12, AUGMENT))
        torch.manual_seed(9)
        teacher = Classifier("wrn-10-1", {"kind": "linear"}, known.classes, 16, 1, [0.5], [0.5]).eval()
        bank = PartnerBank(torch.randn(20, 5), torch.arange(20)[:, None].repeat(1, 2) % 2, 2, torch.randn(20, 64))
        form = Form(
            known.classes, (1, 16, 16), Preprocessing(16), lambda: self.loaders[0].statistics, self.loaders[0].some
        )
        self.model = build_classifier(self.settings, seed, terms.head.model_dump(), form)
        virtual = VirtualOutliers(made, self.settings.steps, 0.5) if (made := terms.virtual_outliers) else None
        teacher.requires_grad_(False)
        self.objective = Objective(terms, self.model.head, teacher, bank, virtual=virtual)
        self.rows: list[Row] = []
        self.run = Run("toy", seed, folder / "checkpoint", "identity", self.rows.append)

    def train(self) -> Classifier:
        train_classifier(self.model, self.loaders, self.objective, self.settings, self.run)
        return self.model


def same(one: Classifier, other: Classifier) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_training_learns_the_classes_and_is_unsure_of_outliers(tmp_path: Path) -> None:
    run = Toy(tmp_path, {"outlier_exposure": {"weight": 1.0, "temperature": 1.0}})
    model, images = run.train(), stripes()
    assert accuracy(predict(model, images.pixels, 32)[0], images.labels) == 1.0
    known, unknown = (
        predict(model, part, 32)[0].softmax(dim=1).amax(dim=1).mean() for part in (images.pixels, outliers())
    )
    assert known > 0.9 and unknown < 0.7
    assert set(run.rows[0]) == {"step", "cross_entropy", "accuracy", "outlier_exposure"}
    assert [row["step"] for row in run.rows] == [0, 25, 39]


@pytest.mark.parametrize("kind", ["cosface", "arcface", "sphereface", "a-softmax", "adacos"])
def test_every_head_learns(tmp_path: Path, kind: str) -> None:
    margin = {"cosface": 0.35, "arcface": 0.5, "sphereface": 1.35, "a-softmax": 4}.get(kind)
    head = {"kind": kind} | ({} if kind == "adacos" else {"margin": margin})
    head |= {} if kind in ("adacos", "a-softmax") else {"scale": 16.0}
    model = Toy(tmp_path, {"head": head}).train()
    images = stripes()
    assert accuracy(predict(model, images.pixels, 32)[0], images.labels) == 1.0


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    models = [Toy(tmp_path / str(i), {}, seed, steps=5).train() for i, seed in enumerate((0, 0, 1))]
    assert same(models[0], models[1]) and not same(models[0], models[2])


@pytest.mark.parametrize(
    "recipe", [{}, EVERYTHING, ATTRIBUTED, MIXED], ids=["plain", "every term", "attribution", "mixture"]
)
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_killed_training_ends_with_the_same_weights(
    tmp_path: Path, recipe: dict[str, object], in_memory: bool
) -> None:
    options = {"steps": 30, "ema": 0.9, "in_memory": in_memory}
    undisturbed = Toy(tmp_path / "a", recipe, **options)
    model = undisturbed.train()
    killed = Toy(tmp_path / "b", recipe, **options)

    def kill(row: Row) -> None:
        if row["step"] == 25:
            raise Killed

    killed.run = replace(killed.run, callback=kill)
    with pytest.raises(Killed):
        killed.train()
    again = Toy(tmp_path / "b", recipe, **options)
    assert same(again.train(), model)
    assert again.rows == undisturbed.rows
    finished = Toy(tmp_path / "b", recipe, **options)
    assert same(finished.train(), model), "a finished seed is taken over whole"


def test_in_memory_and_streamed_training_are_the_same(tmp_path: Path) -> None:
    models = [Toy(tmp_path / str(kind), {}, steps=10, in_memory=kind).train() for kind in (True, False)]
    assert same(*models)


def test_bfloat16_ends_near_float32(tmp_path: Path) -> None:
    full, half = (Toy(tmp_path / kind, {}, precision=kind) for kind in ("float32", "bfloat16"))
    full.train()
    model = half.train()
    assert all(value.dtype == torch.float32 for value in model.state_dict().values() if value.is_floating_point())
    assert half.rows[0]["cross_entropy"] != full.rows[0]["cross_entropy"]
    assert half.rows[0]["cross_entropy"] == pytest.approx(full.rows[0]["cross_entropy"], rel=0.05)
    images = stripes()
    assert accuracy(predict(model, images.pixels, 32)[0], images.labels) == 1.0


def test_the_averaged_weights_are_the_moving_average(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """a_1 = w_1, then a_t = d a_(t-1) + (1 - d) w_t, by hand from the weights after each step."""
    run, weights = Toy(tmp_path, {}, steps=9, ema=0.75), []

    def recording(*arguments: Any, after_step: Callable[[Classifier], None], **options: Any) -> list[Row]:
        def after(model: Classifier) -> None:
            weights.append(model.head.weight.detach().clone())
            after_step(model)

        return loop.fit(*arguments, after_step=after, **options)

    monkeypatch.setattr(fitting, "fit", recording)
    model = run.train()
    expected = weights[0]
    for weight in weights[1:]:
        expected = 0.75 * expected + 0.25 * weight
    torch.testing.assert_close(model.head.weight.detach(), expected)
    assert not torch.allclose(weights[-1], expected)


def test_a_collapse_of_the_accuracy_stops_with_advice() -> None:
    watch = collapse("toy")
    for step in range(6):
        watch({"step": step, "accuracy": 0.9})
    watch({"step": 6, "accuracy": 0.2})  # a bad batch is no collapse
    with pytest.raises(UserError, match="toy: ID accuracy fell from 90% to .* by step 8; lower learning_rate"):
        for step in (7, 8):
            watch({"step": step, "accuracy": 0.1})


def test_slow_learning_is_no_collapse() -> None:
    watch = collapse("toy")
    for step in range(200):
        watch({"step": step, "accuracy": 0.01 + 0.002 * (step % 5) + step / 1000})


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_a_compiled_network_learns_too(tmp_path: Path) -> None:
    images = stripes()
    model = Toy(tmp_path, {}, compile=True).train()
    assert accuracy(predict(model, images.pixels, 32)[0], images.labels) == 1.0
