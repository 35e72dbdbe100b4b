import torch

from pipeline.synthesis.noise import noise_images


def test_image_i_depends_on_seed_and_i_alone() -> None:
    assert torch.equal(noise_images(4, 10, (1, 8, 8))[:6], noise_images(4, 6, (1, 8, 8)))
    assert not torch.equal(noise_images(5, 6, (1, 8, 8)), noise_images(4, 6, (1, 8, 8)))


def test_uniform_and_gaussian_in_turn() -> None:
    images = noise_images(0, 40, (3, 32, 32)).float()
    uniform, gaussian = images[::2], images[1::2]
    assert abs(float(uniform.mean()) - 127.5) < 1 and abs(float(uniform.std()) - 73.9) < 1
    assert abs(float(gaussian.mean()) - 127.5) < 1 and 58 < float(gaussian.std()) < 64  # clipped at 0 and 255
