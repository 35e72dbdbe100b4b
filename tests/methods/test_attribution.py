"""Attribution outliers: the gradient against finite differences, the mask and what it leaves alone."""

import numpy as np
import pytest
import torch

from pipeline.methods import attribution
from pipeline.training.batches import as_images
from tests.methods.inputs import SmallInputs, check_any_part_is_that_of_the_whole


def settings(**changes: object) -> attribution.Settings:
    values = {"count": 12, "mode": "gradient", "share": 0.1, "step": 1.0, "sign": "plus", "batch": 5}
    return attribution.Settings.model_validate(values | changes)


def test_the_gradient_is_that_of_the_own_logit_by_finite_differences() -> None:
    inputs = SmallInputs()
    teacher = inputs.teacher.double()
    images, labels = inputs.images.pixels[:3].double() / 255, torch.tensor([2, 0, 1])
    found = attribution.attribution(teacher, images, labels)
    random = np.random.default_rng(0)
    for n, (c, h, w) in zip([0, 1, 2, 0, 1, 2], random.integers(0, [3, 16, 16], (6, 3)), strict=True):
        ends = []
        for step in (1e-6, -1e-6):
            moved = images.clone()
            moved[n, c, h, w] += step
            ends.append(float(teacher(moved)[0][n, labels[n]]))
        assert float(found[n, c, h, w]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 1.0])
def test_the_mask_keeps_a_share_of_the_largest_values(share: float) -> None:
    values = torch.randn(4, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    mask = attribution.largest(values, share)
    for row, own in zip(values.flatten(1), mask.flatten(1), strict=True):
        assert int(own.sum()) == round(300 * share)
        assert float(row[own].min()) >= float(row[~own].max()) if share < 1 else bool(own.all())


@pytest.mark.parametrize("sign", ["plus", "minus"])
def test_a_step_is_along_the_gradient_of_its_length_and_touches_nothing_else(sign: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images, gradient = 0.5 + 0 * torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8, generator=generator)
    scale = torch.tensor([0.02, 0.01, 0.03]).view(1, 3, 1, 1)
    found = attribution.moved(images, gradient, scale, settings(step=2.0, sign=sign, share=0.2))
    mask = attribution.largest(gradient.abs(), 0.2)
    assert torch.equal(found[~mask], images[~mask])
    steps = (found - images) / scale  # in deviations
    for row, own, of_row in zip(steps, mask, gradient, strict=True):
        assert float(row[own].square().mean().sqrt()) == pytest.approx(2.0, rel=1e-3)
        along = row[own] / of_row[own]
        assert float(along.std() / along.mean().abs()) < 1e-3 and (float(along.mean()) > 0) == (sign == "plus")


def test_the_step_raises_the_logit_and_its_opposite_lowers_it() -> None:
    inputs = SmallInputs()
    images, labels = as_images(inputs.images.pixels[:6]), inputs.images.labels[:6]
    gradient = attribution.attribution(inputs.teacher, images, labels)
    logits = {}
    for sign in ("plus", "minus"):
        moved = attribution.moved(images, gradient, torch.full((1, 3, 1, 1), 0.02), settings(sign=sign))
        logits[sign] = inputs.teacher(moved)[0].gather(1, labels[:, None])
    before = inputs.teacher(images)[0].gather(1, labels[:, None])
    assert bool((logits["plus"] > before).all()) and bool((logits["minus"] < before).all())


def test_shuffling_keeps_the_histogram_and_every_pixel_outside_the_mask() -> None:
    generator = torch.Generator().manual_seed(0)
    images, gradient = torch.rand(4, 3, 8, 8, generator=generator), torch.randn(4, 3, 8, 8, generator=generator)
    found = attribution.shuffled(images, gradient, 0.25, [np.random.default_rng(i) for i in range(4)])
    mask = attribution.largest(gradient.abs().sum(dim=1), 0.25)
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
