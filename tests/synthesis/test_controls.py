from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate, gaussian_filter
from torch import Tensor

from pipeline.artifacts.images import ImageSet
from pipeline.synthesis.controls import cut_mix, noise_images, pixel_mixup, sharpened

ID_SET = ImageSet(
    torch.randint(0, 256, (30, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
    torch.arange(30) % 3, [str(i) for i in range(30)], ["a", "b", "c"], "id",
)  # fmt: skip

Mix = Callable[[int, range, ImageSet], tuple[Tensor, Tensor, Tensor]]


def test_image_i_depends_on_seed_and_i_alone() -> None:
    whole = noise_images(4, range(10), (1, 8, 8))[0]
    assert torch.equal(whole[3:7], noise_images(4, range(3, 7), (1, 8, 8))[0])
    assert not torch.equal(noise_images(5, range(10), (1, 8, 8))[0], whole)


def test_uniform_and_gaussian_in_turn() -> None:
    images = noise_images(0, range(40), (3, 32, 32))[0].float()
    uniform, gaussian = images[::2], images[1::2]
    assert abs(float(uniform.mean()) - 127.5) < 1 and abs(float(uniform.std()) - 73.9) < 1
    assert abs(float(gaussian.mean()) - 127.5) < 1 and 58 < float(gaussian.std()) < 64  # clipped at 0 and 255


@pytest.mark.parametrize("mix", [pixel_mixup, cut_mix])
def test_mixtures_are_of_two_classes_and_depend_on_seed_and_i_alone(mix: Mix) -> None:
    pixels, rows, shares = mix(4, range(200), ID_SET)
    some = mix(4, range(40, 100), ID_SET)
    for column, own in zip((pixels, rows, shares), some, strict=True):
        assert torch.equal(column[40:100], own)
    assert not torch.equal(mix(5, range(40, 100), ID_SET)[0], some[0])
    labels = ID_SET.labels[rows]
    assert bool((labels[:, 0] != labels[:, 1]).all())
    assert set(map(tuple, labels.tolist())) == {(a, b) for a in range(3) for b in range(3) if a != b}
    assert float(shares.min()) > 0 and float(shares.max()) < 1


def test_pixel_mixup_is_the_weighted_mean() -> None:
    pixels, rows, shares = pixel_mixup(4, range(50), ID_SET)
    first, second = ID_SET.pixels[rows[:, 0]].double(), ID_SET.pixels[rows[:, 1]].double()
    weight = shares.double()[:, None, None, None]
    assert float((pixels.double() - (weight * first + (1 - weight) * second)).abs().max()) <= 0.501


def test_cut_mix_takes_a_square_of_the_second_image() -> None:
    for image, (first, second), share in zip(*cut_mix(4, range(50), ID_SET), strict=True):
        from_second = (image == ID_SET.pixels[second]).all(dim=0)
        from_first = (image == ID_SET.pixels[first]).all(dim=0)
        assert bool((from_first | from_second).all())
        area = int((~from_first).sum()) / 64
        assert area == pytest.approx(1 - float(share), abs=0.05)
        rows, columns = torch.nonzero(~from_first, as_tuple=True)
        assert abs(int(rows.max() - rows.min()) - int(columns.max() - columns.min())) <= 1


def test_soft_cut_mix_is_the_same_square_with_its_edge_blurred() -> None:
    """Black and white images show the square itself; SciPy's filter is the reference."""
    black_and_white = torch.tensor([0, 255] * 5, dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 32, 32)
    id_set = ImageSet(black_and_white, torch.arange(10) % 2, [str(i) for i in range(10)], ["a", "b"], "id")
    hard, soft = cut_mix(4, range(20), id_set), cut_mix(4, range(20), id_set, soft=True)
    assert torch.equal(hard[1], soft[1])
    for image, blurred in zip(hard[0].double().numpy(), soft[0].double().numpy(), strict=True):
        assert set(np.unique(image)) == {0, 255}
        np.testing.assert_allclose(blurred[0], gaussian_filter(image[0], 2.0, mode="nearest"), atol=0.51)


def test_sharpened_images_are_id_images_with_their_details_doubled() -> None:
    images, rows, shares = sharpened(0, range(7, 40), ID_SET)
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    for image, row in zip(images.numpy(), rows[:, 0].tolist(), strict=True):
        plain = ID_SET.pixels[row].double().numpy()
        blurred = np.stack([correlate(channel, kernel, mode="nearest") for channel in plain])
        np.testing.assert_allclose(image, (2 * plain - blurred).clip(0, 255), atol=0.51)
    assert shares.tolist() == [1.0] * 33
    assert torch.equal(sharpened(0, range(10, 12), ID_SET)[0], images[3:5])
