import io

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from scipy.ndimage import convolve

from pipeline.settings.methods import CORRECTIONS, Pools
from pipeline.shortcuts import corrections


@pytest.fixture
def images() -> torch.Tensor:
    """Soft blobs, uint8 (6, 3, 16, 16)."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(6, 3, 5, 5, generator=generator) * 120 + 60
    return torch.nn.functional.interpolate(coarse, size=16, mode="bicubic").clamp(0, 255).to(torch.uint8)


@pytest.fixture
def reference() -> corrections.Reference:
    """Sharper images, of another contrast, with many black pixels."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(6, 3, 8, 8, generator=generator) * 400 - 120
    pixels = torch.nn.functional.interpolate(coarse, size=16, mode="bicubic").clamp(0, 255).to(torch.uint8)
    return corrections.Reference(pixels, torch.full((6, 3, 16, 16), 7.0))


def laplacian(pixels: torch.Tensor) -> np.ndarray:
    kernel = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    grey = pixels.double().mean(dim=1).numpy()
    return np.array([np.abs(convolve(image, kernel))[1:-1, 1:-1].mean() for image in grey])


def test_without_cures_nothing_changes(images: torch.Tensor, reference: corrections.Reference) -> None:
    assert torch.equal(corrections.apply([], images, reference), images)


def test_residual_is_added(images: torch.Tensor, reference: corrections.Reference) -> None:
    assert torch.equal(corrections.apply(["residual"], images, reference), images + 7)


def test_contrast_is_that_of_the_id_image(images: torch.Tensor, reference: corrections.Reference) -> None:
    weak = corrections.Reference((reference.pixels // 4 + 96), reference.residual)  # no clipping
    found = corrections.apply(["contrast"], images, weak).double().flatten(1)
    torch.testing.assert_close(found.std(dim=1), weak.pixels.double().flatten(1).std(dim=1), atol=0.5, rtol=0.01)
    torch.testing.assert_close(found.mean(dim=1), images.double().flatten(1).mean(dim=1), atol=0.5, rtol=0)


def test_histogram_is_that_of_the_id_image_in_the_images_own_order(
    images: torch.Tensor, reference: corrections.Reference
) -> None:
    found = corrections.apply(["histogram"], images, reference)
    for own, before, wanted in zip(
        found.flatten(0, 1), images.flatten(0, 1), reference.pixels.flatten(0, 1), strict=True
    ):
        difference = np.sort(own.flatten().numpy().astype(int)) - np.sort(wanted.flatten().numpy().astype(int))
        assert np.abs(difference).mean() < 4  # equal levels of the image stay equal
        order = before.flatten().argsort(stable=True)
        assert bool((own.flatten()[order].diff().int() >= 0).all())


def test_sharpness_is_that_of_the_id_image(images: torch.Tensor, reference: corrections.Reference) -> None:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    sharper = corrections.Reference((images + 3 * noise).clamp(0, 255).to(torch.uint8), reference.residual)
    before, wanted = laplacian(images), laplacian(sharper.pixels)
    found = laplacian(corrections.apply(["sharpness"], images, sharper))
    assert (np.abs(found - wanted) < 0.05 * wanted + 0.5).all()
    assert (np.abs(before - wanted) > np.abs(found - wanted)).all()
    softer = laplacian(
        corrections.apply(["sharpness"], reference.pixels, corrections.Reference(images, reference.residual))
    )
    assert (softer < laplacian(reference.pixels)).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_what_pillow_makes_of_it(images: torch.Tensor, reference: corrections.Reference, channels: int) -> None:
    pixels = images[:, :channels].contiguous()
    found = corrections.apply(["jpeg-60"], pixels, reference)
    for own, image in zip(found, pixels, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy().squeeze()).save(buffer, format="JPEG", quality=60)
        again = np.asarray(Image.open(buffer)).reshape(16, 16, channels)
        assert np.array_equal(own.permute(1, 2, 0).numpy(), again)


@pytest.mark.parametrize("name", ["residuals", "jpeg", "jpeg-0", "jpeg-101"])
def test_unknown_corrections_are_refused(name: str) -> None:
    pools: TypeAdapter[Pools] = TypeAdapter(Pools)
    pools.validate_python(["boundary+residual+jpeg-1+jpeg-100"])
    with pytest.raises(ValidationError, match=f"{name!r} is unknown; expected some of residual"):
        pools.validate_python([f"boundary+residual+{name}"])


def test_the_names_that_are_allowed_are_those_that_exist() -> None:
    assert set(CORRECTIONS) == set(corrections.CORRECTIONS)
