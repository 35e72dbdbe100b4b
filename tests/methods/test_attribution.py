"""Attribution outliers: the shuffled pixels, and which images candidates are of."""

import numpy as np
import pytest
import torch

from pipeline.classifier.attribution import largest
from pipeline.methods import attribution
from tests.methods.inputs import SmallInputs, check_any_part_is_that_of_the_whole


def settings(**changes: object) -> attribution.Settings:
    values = {"count": 12, "mode": "gradient", "share": 0.1, "step": 1.0, "sign": "plus", "batch": 5}
    return attribution.Settings.model_validate(values | changes)


def test_shuffling_keeps_the_histogram_and_every_pixel_outside_the_mask() -> None:
    generator = torch.Generator().manual_seed(0)
    images, gradient = torch.rand(4, 3, 8, 8, generator=generator), torch.randn(4, 3, 8, 8, generator=generator)
    found = attribution.shuffled(images, gradient, 0.25, [np.random.default_rng(i) for i in range(4)])
    mask = largest(gradient.abs().sum(dim=1), 0.25)
    for image, made, own in zip(images, found, mask, strict=True):
        assert torch.equal(image[:, ~own], made[:, ~own])
        pixels = [set(map(tuple, one[:, own].T.tolist())) for one in (image, made)]
        assert pixels[0] == pixels[1] and not torch.equal(image, made)  # whole pixels move, the channels together


@pytest.mark.parametrize("mode", ["gradient", "shuffle"])
def test_candidates_are_of_the_classes_in_turn_and_say_how_far_they_are(mode: str) -> None:
    inputs = SmallInputs()
    draw = attribution.method(settings(mode=mode), inputs)
    found = check_any_part_is_that_of_the_whole(draw, 12)
    labels = inputs.images.labels[found.source]
    assert torch.equal(labels, torch.arange(12) % 3) and torch.equal(found.parents, labels[:, None].repeat(1, 2))
    steps = (found.values.double() - inputs.images.pixels[found.source]) / 255 / inputs.teacher.std.double()
    torch.testing.assert_close(
        found.strength.double(), steps.square().flatten(1).mean(dim=1).sqrt(), atol=1e-5, rtol=1e-4
    )
    changed = (steps != 0).flatten(1).double().mean(dim=1)
    assert bool((changed > 0).all()) and float(changed.max()) <= 0.1 + 0.01
