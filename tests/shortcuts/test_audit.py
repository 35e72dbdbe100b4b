import numpy as np
import torch
from scipy.ndimage import gaussian_filter, laplace

from pipeline.shortcuts import audit

GENERATOR = torch.Generator().manual_seed(0)


def noise(n: int, low: int = 0, high: int = 256) -> torch.Tensor:
    return torch.randint(low, high, (n, 1, 16, 16), dtype=torch.uint8, generator=GENERATOR)


def test_sharpness_is_scipys_laplacian() -> None:
    pixels = noise(5)
    inner = [np.abs(laplace(image[0].astype(float)))[1:-1, 1:-1].mean() for image in pixels.numpy()]
    np.testing.assert_allclose(audit.sharpness(pixels), inner, rtol=1e-5)


def test_the_same_distribution_gives_nothing_away() -> None:
    found = audit.shortcut_auroc(noise(300), noise(300))
    assert all(value < 60 for value in found.values()), found


def test_what_differs_is_found() -> None:
    sharp = noise(100)
    blurred = torch.from_numpy(gaussian_filter(sharp.numpy().astype(float), (0, 0, 1, 1)).astype(np.uint8))
    assert audit.shortcut_auroc(sharp, blurred)["sharpness"] == 100
    darker = audit.shortcut_auroc(noise(100), noise(100, 0, 100))
    assert darker["brightness"] == 100 and darker["probe"] > 99


def test_the_probe_sees_stripes_that_single_statistics_do_not() -> None:
    """The same values in another order: contrast and brightness are equal, the spectrum is not."""
    stripes = torch.zeros(60, 1, 16, 16, dtype=torch.uint8)
    stripes[:, :, :, ::2] = 200
    wide = torch.zeros(60, 1, 16, 16, dtype=torch.uint8)
    wide[:, :, :, :8] = 200
    noisy = [part + noise(60, 0, 20) for part in (stripes, wide)]
    found = audit.shortcut_auroc(*noisy)
    assert found["probe"] == 100 and found["contrast"] < 70 and found["brightness"] < 70


def test_spectrum_of_a_wave_has_its_peak_at_its_frequency() -> None:
    columns = torch.arange(16) * 2 * torch.pi * 3 / 16
    wave = (127 + 100 * columns.cos()).to(torch.uint8).expand(1, 1, 16, 16)
    assert audit.spectrum(wave)[0].argmax() == 3 - 1  # rings start at 1
