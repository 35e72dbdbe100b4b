from pathlib import Path

import pytest
import torch

from pipeline.artifacts import models
from pipeline.artifacts.images import ImageSet
from pipeline.errors import UserError
from pipeline.learning.networks import Classifier, backbone, predict, statistics
from pipeline.learning.objective import objective
from pipeline.learning.training import Auxiliary, Training, accuracy, train_classifier


def settings(**changes: object) -> Training:
    values = {"network": "wrn-10-1", "steps": 40, "batch": 16, "learning_rate": 0.05, "weight_decay": 0.0}
    return Training.model_validate(values | {"shift": 1, "flip": False} | changes)


def stripes(n: int = 64) -> ImageSet:
    """Two classes anyone can tell apart: horizontal and vertical stripes."""
    pixels = torch.zeros(n, 1, 16, 16, dtype=torch.uint8)
    pixels[::2, :, ::4], pixels[1::2, :, :, ::4] = 255, 255
    return ImageSet(pixels, torch.arange(n) % 2, [str(i) for i in range(n)], ["across", "down"], "id")


def test_a_saved_classifier_says_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Classifier("wrn-10-1", ["a", "b", "c"], 3, [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]).eval()
    model.save_pretrained(tmp_path)
    assert {"config.json", "model.safetensors"} <= {path.name for path in tmp_path.iterdir()}
    again = models.load(Classifier, tmp_path)
    images = torch.rand(2, 3, 20, 20)
    for mine, theirs in zip(model(images), again(images), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert again.classes == ["a", "b", "c"]


def test_logits_are_the_head_of_the_features() -> None:
    model = Classifier("wrn-10-1", ["a", "b"], 1, [0.0], [1.0]).eval()
    logits, features = model(torch.rand(4, 1, 16, 16))
    torch.testing.assert_close(features @ model.head.weight.T + model.head.bias, logits)


def test_at_32_pixels_the_network_is_pytorch_oods() -> None:
    model = Classifier("wrn-10-1", ["a", "b"], 3, [0.0] * 3, [1.0] * 3).eval()
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(model(images)[0], model.backbone(images))


def test_normalisation_is_inside_the_model() -> None:
    pixels = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    mean, std = statistics(pixels)
    model = Classifier("wrn-10-1", ["a", "b"], 1, mean, std).eval()
    logits, _ = predict(model, pixels, batch=7)
    by_hand = (pixels / 255 - (pixels / 255).mean()) / (pixels / 255).std()
    maps = model.backbone.feature_maps(by_hand)
    torch.testing.assert_close(logits, model.head(maps.mean(dim=(2, 3))).detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["resnet", "wrn-12-1", "wrn-10-0", "wrn-4-1"])
def test_unknown_networks_are_named(name: str) -> None:
    with pytest.raises(UserError, match="unknown; expected wrn-DEPTH-WIDTH"):
        backbone(name, 2, 1)


def test_training_learns_the_classes_and_is_unsure_of_outliers() -> None:
    images = stripes()
    outliers = torch.randint(0, 256, (64, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    auxiliary = Auxiliary(outliers, torch.full((64,), -1), batch=12)
    model, history = train_classifier(images, auxiliary, objective(exposure_weight=1.0), settings(), 0, "toy")
    assert accuracy(predict(model, images.pixels, 32)[0], images.labels) == 1.0
    known, unknown = (
        predict(model, part, 32)[0].softmax(dim=1).amax(dim=1).mean() for part in (images.pixels, outliers)
    )
    assert known > 0.9 and unknown < 0.7
    assert set(history[0]) == {"step", "cross_entropy", "exposure"}


def test_the_same_seed_gives_the_same_weights() -> None:
    first, again, other = (
        train_classifier(stripes(), None, objective(), settings(steps=5), seed, "toy")[0].head.weight
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
