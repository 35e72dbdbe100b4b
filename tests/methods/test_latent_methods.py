"""`boundary`, `mixup` and `synthetic-id`: what each hands on of its sampler, tested in tests/synthesis."""

import pytest
import torch

from pipeline.methods import boundary, mixup, synthetic_id
from pipeline.synthesis import diffusion, mixing
from pipeline.synthesis.boundary import Sampler
from tests.methods.inputs import SmallInputs, check_any_part_is_that_of_the_whole

SAMPLER = {"sampler": "ddim", "steps": 3, "guidance": 1.0, "clip": None, "batch": 4}


def test_boundary_outliers_are_those_of_the_sampler_around_their_source() -> None:
    settings = boundary.Settings(
        count=40, neighbours=2, anchors=3, perturbations=5, kept_per_anchor=2, sigmas=[0.5, 1.0], unit_sphere=False
    )
    inputs = SmallInputs()
    found = check_any_part_is_that_of_the_whole(boundary.method(settings, inputs), 40)
    latents = inputs.latents
    expected = Sampler(latents.mean.flatten(1), latents.labels, settings, 7, "boundary").sample(range(40))
    assert torch.equal(found.values.flatten(1), expected.vectors)
    assert torch.equal(latents.labels[found.source], found.parents[:, 0])


def test_mixtures_are_of_two_classes_and_their_own_noise() -> None:
    settings, inputs = mixup.Settings(count=12, mode="mean", ratio=[0.3, 0.7], **SAMPLER), SmallInputs()
    found = check_any_part_is_that_of_the_whole(mixup.method(settings, inputs), 12, tolerance=1e-3)
    parents, share = mixing.draw_parents(7, range(12), 3, 0.3, 0.7)
    assert torch.equal(found.parents, parents) and torch.equal(found.strength, share)
    model = inputs.diffusion
    first, second = model.embedding(parents[:, 0]), model.embedding(parents[:, 1])
    condition = share[:, None] * first + (1 - share[:, None]) * second
    predict = lambda noisy, times: model(noisy, times, condition)  # noqa: E731
    latents = diffusion.sample(model, predict, "ddim", 3, 7, "mixup", range(12))
    scale = inputs.autoencoder.config.scaling_factor
    torch.testing.assert_close(found.values, latents / scale, atol=1e-4, rtol=1e-4)


def test_synthetic_id_images_are_of_the_classes_in_turn() -> None:
    settings, inputs = synthetic_id.Settings(**SAMPLER), SmallInputs()
    found = check_any_part_is_that_of_the_whole(synthetic_id.method(settings, inputs), 12, tolerance=1e-3)
    assert torch.equal(found.parents, (torch.arange(12) % 3)[:, None].repeat(1, 2))
    assert bool((found.source == -1).all()) and bool((found.strength == 1).all())


def test_clean_images_are_clipped_in_raw_latents() -> None:
    """The last of ancestral steps is the estimate itself: no raw latent is larger than the bound."""
    inputs = SmallInputs()
    sampler = SAMPLER | {"sampler": "ddpm", "steps": 5, "clip": 0.3}
    for draw in (
        mixup.method(mixup.Settings(count=4, mode="sum", ratio=[0.5, 0.5], **sampler), inputs),
        synthetic_id.method(synthetic_id.Settings(**sampler), inputs),
    ):
        assert float(draw(range(4)).values.abs().max()) == pytest.approx(0.3, rel=1e-4)
