"""The controls, against their definitions, SciPy and each other."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate, gaussian_filter

from pipeline import methods
from pipeline.artifacts.candidates import Candidates
from pipeline.artifacts.images import ImageSet
from pipeline.methods import (
    cut_mix,
    decoded_id,
    id_itself,
    noise,
    oracle,
    pixel_mixup,
    sharpened,
    soft_cut_mix,
    unknown,
)
from tests.methods.inputs import SmallInputs, check_any_part_is_that_of_the_whole, id_images

PIXELS = ("noise", "pixel-mixup", "cut-mix", "soft-cut-mix", "sharpened", "id-itself", "oracle", "unknown")


def draw(module: methods.Method, count: int, **changes: object) -> Candidates:
    return module.method(module.Settings(), SmallInputs(**changes))(range(count))


@pytest.mark.parametrize("name", [*PIXELS, "decoded-id"])
def test_image_i_depends_on_seed_and_i_alone(name: str) -> None:
    module = methods.load(name)
    whole = check_any_part_is_that_of_the_whole(module.method(module.Settings(), SmallInputs()), 40)
    assert whole.kind == ("pixels" if name in PIXELS else "latent")
    assert not torch.equal(draw(module, 40, seed=8).values, whole.values)


@pytest.mark.parametrize("name", [*PIXELS, "decoded-id"])
def test_parents_and_source_say_what_an_image_was_made_of(name: str) -> None:
    module = methods.load(name)
    found, labels = draw(module, 40), id_images().labels
    if module.Settings.has_parents:
        assert torch.equal(found.parents[:, 0], labels[found.source])
    else:
        assert bool((found.parents == -1).all()) and bool((found.source == -1).all())


def test_uniform_and_gaussian_noise_in_turn() -> None:
    images = draw(noise, 40, images=id_images(size=32)).values.float()
    uniform, gaussian = images[::2], images[1::2]
    assert abs(float(uniform.mean()) - 127.5) < 1 and abs(float(uniform.std()) - 73.9) < 1
    assert abs(float(gaussian.mean()) - 127.5) < 1 and 58 < float(gaussian.std()) < 64  # clipped at 0 and 255


def test_id_itself_is_unchanged() -> None:
    found, id_set = draw(id_itself, 50), id_images()
    assert torch.equal(found.values, id_set.pixels[found.source]) and not id_itself.Settings.is_id


@pytest.mark.parametrize("module", [pixel_mixup, cut_mix])
def test_mixtures_are_of_all_pairs_of_different_classes(module: methods.Method) -> None:
    found = draw(module, 200)
    assert set(map(tuple, found.parents.tolist())) == {(a, b) for a in range(3) for b in range(3) if a != b}
    assert float(found.strength.min()) > 0 and float(found.strength.max()) < 1


def test_pixel_mixup_is_the_weighted_mean_of_two_images() -> None:
    found, id_set = draw(pixel_mixup, 50), id_images()
    for i, image in enumerate(found.values.double()):
        weight = float(found.strength[i])
        others = id_set.pixels[id_set.labels == found.parents[i, 1]].double()
        mixed = weight * id_set.pixels[found.source[i]].double() + (1 - weight) * others
        assert float((mixed - image).abs().amax(dim=(1, 2, 3)).min()) <= 0.501


def test_cut_mix_takes_a_square_of_the_second_image() -> None:
    found, id_set = draw(cut_mix, 50), id_images()
    for i, image in enumerate(found.values):
        from_first = (image == id_set.pixels[found.source[i]]).all(dim=0)
        others = id_set.pixels[id_set.labels == found.parents[i, 1]]
        from_second = (image == others).all(dim=1)
        assert bool((from_first | from_second).all(dim=2).all(dim=1).any())
        assert int((~from_first).sum()) / 256 == pytest.approx(1 - float(found.strength[i]), abs=0.05)
        rows, columns = torch.nonzero(~from_first, as_tuple=True)
        assert abs(int(rows.max() - rows.min()) - int(columns.max() - columns.min())) <= 1


def test_soft_cut_mix_is_the_same_square_with_its_edge_blurred() -> None:
    """Black and white images show the square itself; SciPy's filter is the reference."""
    pixels = torch.tensor([0, 255] * 5, dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 32, 32)
    id_set = ImageSet(pixels, torch.arange(10) % 2, [str(i) for i in range(10)], ["a", "b"], "id")
    hard, soft = draw(cut_mix, 20, images=id_set), draw(soft_cut_mix, 20, images=id_set)
    assert torch.equal(hard.source, soft.source) and torch.equal(hard.parents, soft.parents)
    for image, blurred in zip(hard.values.double().numpy(), soft.values.double().numpy(), strict=True):
        assert set(np.unique(image)) == {0, 255}
        np.testing.assert_allclose(blurred[0], gaussian_filter(image[0], 2.0, mode="nearest"), atol=0.51)


def test_sharpened_images_are_id_images_with_their_details_doubled() -> None:
    found, id_set = draw(sharpened, 40), id_images()
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    for image, row in zip(found.values.numpy(), found.source.tolist(), strict=True):
        plain = id_set.pixels[row].double().numpy()
        blurred = np.stack([correlate(channel, kernel, mode="nearest") for channel in plain])
        np.testing.assert_allclose(image, (2 * plain - blurred).clip(0, 255), atol=0.51)
    assert found.strength.tolist() == [1.0] * 40


def test_decoded_id_images_are_draws_from_the_posteriors_of_all_images_in_turn() -> None:
    inputs = SmallInputs()
    found = decoded_id.method(decoded_id.Settings(), inputs)(range(60))
    assert sorted(found.source[:30].tolist()) == list(range(30))
    latents = inputs.latents
    standard = (found.values - latents.mean[found.source]) / latents.std[found.source]
    assert abs(float(standard.mean())) < 0.02 and float(standard.std()) == pytest.approx(1, abs=0.02)
    exact = SmallInputs()
    exact.latents = replace(latents, std=torch.zeros_like(latents.std))
    same = decoded_id.method(decoded_id.Settings(), exact)(range(60))
    assert torch.equal(same.values, latents.mean[same.source])


@pytest.mark.parametrize(("control", "count"), [(oracle, 5), (unknown, 4)])
def test_real_outliers_are_shown_each_in_turn(control: Any, count: int) -> None:
    found = draw(control, 10)
    pixels = SmallInputs().oracle if control is oracle else SmallInputs().unknown
    assert {image.tobytes() for image in found.values[:count].numpy()} == {image.tobytes() for image in pixels.numpy()}
