import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from pipeline.synthesis import quality


def test_frechet_distance_of_gaussians_in_closed_form() -> None:
    """For independent dimensions it is |m1 - m2|^2 + sum (s1 - s2)^2."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(200_000, 3, generator=generator) * torch.tensor([1.0, 2.0, 0.5])
    second = torch.randn(200_000, 3, generator=generator) * torch.tensor([1.5, 2.0, 3.0]) + torch.tensor([1.0, 0, -2.0])
    assert quality.frechet_distance(first, second) == pytest.approx(5 + 0.25 + 6.25, rel=0.02)
    assert quality.frechet_distance(first, first) == pytest.approx(0, abs=1e-5)
    assert quality.frechet_distance(second, first) == pytest.approx(quality.frechet_distance(first, second))


def test_frechet_distance_is_finite_where_dimensions_are_dead() -> None:
    first = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0, 1.0, 0])
    assert 0 <= quality.frechet_distance(first, first + 1) == pytest.approx(4, abs=1e-4)


def test_frechet_distance_is_scipys() -> None:
    generator = torch.Generator().manual_seed(3)
    first = torch.randn(300, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    second = torch.randn(200, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 1
    own = [np.cov(features.double().numpy(), rowvar=False) for features in (first, second)]
    means = float((first.double().mean(dim=0) - second.double().mean(dim=0)).square().sum())
    expected = means + np.trace(own[0] + own[1] - 2 * sqrtm(own[0] @ own[1]).real)
    assert quality.frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_agreement_and_classes() -> None:
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0], [0.0, 5.0]])
    labels = torch.tensor([0, 1, 1, 1])
    assert quality.agreement(logits, labels) == 75
    pixels = torch.arange(4)[:, None]
    assert [row.flatten().tolist() for row in quality.by_class(pixels, labels, 2)] == [[0], [1, 2, 3]]


def test_diversity() -> None:
    pixels = torch.randint(0, 256, (10, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    latents = torch.arange(10.0)[:, None] * 2
    assert quality.diversity(latents, pixels) == (pytest.approx(2.0), 0)
    repeated = torch.cat([pixels[:6], pixels[:1], pixels[:1], pixels[3:5]])  # one image three times, two images twice
    assert quality.diversity(latents, repeated)[1] == len(repeated) - 6
