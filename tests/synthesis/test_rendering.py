"""Candidates as images: decoded or encoded, corrected by ID images of their own."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pipeline.artifacts.candidates import Candidates
from pipeline.artifacts.images import ImageSet
from pipeline.runtime.errors import UserError
from pipeline.settings.encode import InferenceSettings
from pipeline.synthesis import autoencoder as space
from pipeline.synthesis.rendering import Renderer
from tests.methods.inputs import SmallInputs, id_images

WHOLE = InferenceSettings(batch=50, precision="float32")


def banded() -> ImageSet:
    """ID images of grey levels of their own: image i has those from 7 i to 7 i + 31."""
    plain = id_images()
    levels = 7 * torch.arange(len(plain), dtype=torch.uint8).view(-1, 1, 1, 1)
    return replace(plain, pixels=plain.pixels // 8 + levels)


INPUTS = SmallInputs(images=banded())


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(INPUTS.autoencoder, WHOLE, INPUTS.size, INPUTS.images, INPUTS.latents.mean, 5)


def of_latents(raw_latents: Tensor, source: list[int]) -> Candidates:
    n = len(source)
    parents = (torch.arange(n) % 3)[:, None].repeat(1, 2)
    return Candidates.of_latents(raw_latents, parents, torch.ones(n), torch.tensor(source))


def test_latents_are_decoded_and_images_encoded(renderer: Renderer) -> None:
    found = renderer.render(of_latents(INPUTS.latents.mean[:5], list(range(5))), range(5), [], "boundary")
    assert torch.equal(found.pixels, space.decode(INPUTS.autoencoder, INPUTS.latents.mean[:5], 16, WHOLE))
    assert torch.equal(found.raw_latents, INPUTS.latents.mean[:5])
    images = Candidates.of_nothing(INPUTS.images.pixels[:5])
    found = renderer.render(images, range(5), [], "noise")
    assert torch.equal(found.pixels, images.values)
    assert torch.equal(found.raw_latents, space.encode(INPUTS.autoencoder, images.values, 16, WHOLE)[0])


def test_images_are_encoded_as_they_are_after_their_correction(renderer: Renderer) -> None:
    images = Candidates.of_images(INPUTS.images.pixels[:5], INPUTS.images.labels[:5], torch.ones(5), torch.arange(5))
    found = renderer.render(images, range(5), ["jpeg-30"], "sharpened")
    assert not torch.equal(found.pixels, images.values)
    assert torch.equal(found.raw_latents, space.encode(INPUTS.autoencoder, found.pixels, 16, WHOLE)[0])


def test_latents_of_another_space_are_refused(renderer: Renderer) -> None:
    own = of_latents(torch.zeros(1, 1, 1, 1), [0])
    with pytest.raises(UserError, match=r"embedding: latents of shape \(1, 1, 1\), expected \(4, 8, 8\)"):
        renderer.render(own, range(1), [], "embedding")


def test_the_residual_of_its_source_turns_a_decoded_image_back(renderer: Renderer) -> None:
    rows = [3, 8, 20]
    found = of_latents(INPUTS.latents.mean[rows], rows)
    assert not torch.equal(renderer.render(found, range(3), [], "boundary").pixels, INPUTS.images.pixels[rows])
    corrected = renderer.render(found, range(3), ["residual"], "boundary").pixels
    assert torch.equal(corrected, INPUTS.images.pixels[rows])


def test_corrections_do_not_depend_on_the_batch_and_take_an_image_of_the_first_parent(renderer: Renderer) -> None:
    names = ["residual", "histogram", "sharpness", "jpeg-80"]
    found = of_latents(torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(2)), [3, -1, -1, 6, -1, -1])
    whole = renderer.render(found, range(10, 16), names, "mixup").pixels
    assert torch.equal(renderer.render(found[2:5], range(12, 15), names, "mixup").pixels, whole[2:5])
    black = renderer.render(found, range(10, 16), ["histogram"], "mixup").pixels.flatten(1).sort(dim=1).values.float()
    levels = INPUTS.images.pixels.flatten(1).float().sort(dim=1).values
    for row, parent in zip(black, found.parents[:, 0], strict=True):
        distances = (levels - row).abs().mean(dim=1)
        nearest = int(distances.argmin())
        assert float(distances[nearest]) < 2 and int(INPUTS.images.labels[nearest]) == int(parent)
