"""The gradient against finite differences, the mask and what a step leaves alone."""

from typing import get_args

import numpy as np
import pytest
import torch

from pipeline.classifier.attribution import Sign, attribution, largest, moved
from pipeline.training.batches import as_images
from tests.methods.inputs import SmallInputs


def test_the_gradient_is_that_of_the_own_logit_by_finite_differences() -> None:
    inputs = SmallInputs()
    teacher = inputs.teacher.double()
    images, labels = inputs.images.pixels[:3].double() / 255, torch.tensor([2, 0, 1])
    found = attribution(teacher, images, labels)
    random = np.random.default_rng(0)
    for n, (c, h, w) in zip([0, 1, 2, 0, 1, 2], random.integers(0, [3, 16, 16], (6, 3)), strict=True):
        ends = []
        for step in (1e-6, -1e-6):
            other = images.clone()
            other[n, c, h, w] += step
            ends.append(float(teacher(other)[0][n, labels[n]]))
        assert float(found[n, c, h, w]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 1.0])
def test_the_mask_keeps_a_share_of_the_largest_values(share: float) -> None:
    values = torch.randn(4, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    mask = largest(values, share)
    for row, own in zip(values.flatten(1), mask.flatten(1), strict=True):
        assert int(own.sum()) == round(300 * share)
        assert float(row[own].min()) >= float(row[~own].max()) if share < 1 else bool(own.all())


@pytest.mark.parametrize("sign", ["plus", "minus"])
def test_a_step_is_along_the_gradient_of_its_length_and_touches_nothing_else(sign: Sign) -> None:
    generator = torch.Generator().manual_seed(0)
    images, gradient = 0.5 + 0 * torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8, generator=generator)
    scale = torch.tensor([0.02, 0.01, 0.03]).view(1, 3, 1, 1)
    found = moved(images, gradient, scale, 0.2, 2.0, sign)
    mask = largest(gradient.abs(), 0.2)
    assert torch.equal(found[~mask], images[~mask])
    steps = (found - images) / scale  # in deviations
    for row, own, of_row in zip(steps, mask, gradient, strict=True):
        assert float(row[own].square().mean().sqrt()) == pytest.approx(2.0, rel=1e-3)
        along = row[own] / of_row[own]
        assert float(along.std() / along.mean().abs()) < 1e-3 and (float(along.mean()) > 0) == (sign == "plus")


def test_the_step_raises_the_logit_and_its_opposite_lowers_it() -> None:
    inputs = SmallInputs()
    images, labels = as_images(inputs.images.pixels[:6]), inputs.images.labels[:6]
    gradient = attribution(inputs.teacher, images, labels)
    logits, signs = {}, get_args(Sign)
    for sign in signs:
        found = moved(images, gradient, torch.full((1, 3, 1, 1), 0.02), 0.1, 1.0, sign)
        logits[sign] = inputs.teacher(found)[0].gather(1, labels[:, None])
    before = inputs.teacher(images)[0].gather(1, labels[:, None])
    assert bool((logits["plus"] > before).all()) and bool((logits["minus"] < before).all())
