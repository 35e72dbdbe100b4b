import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_ood.loss import EnergyRegularizedLoss, OutlierExposureLoss
from torch.nn import functional

from pipeline.classifier.exposure import energy_regularization, outlier_exposure


@pytest.mark.parametrize("classes", [2, 6, 100])
def test_exposure_is_least_and_ln_c_at_equal_logits(classes: int) -> None:
    assert float(outlier_exposure(torch.full((3, classes), 7.0))) == pytest.approx(math.log(classes), rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.integers(2, 12), st.integers(0, 2**31))
def test_exposure_is_kl_from_uniform_plus_ln_c_and_agrees_with_pytorch_ood(n: int, classes: int, seed: int) -> None:
    logits = 10 * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = float(outlier_exposure(logits))
    uniform = torch.full_like(logits, 1 / classes)
    kl = functional.kl_div(logits.log_softmax(dim=1), uniform, reduction="batchmean")
    assert found == pytest.approx(float(kl) + math.log(classes), rel=1e-9)
    assert found >= math.log(classes) - 1e-12
    outliers = torch.full((n,), -1)
    theirs = OutlierExposureLoss(alpha=0.5, reduction="none")(logits.float(), outliers)
    assert 0.5 * found == pytest.approx(float(theirs.mean()), rel=1e-5)


def test_temperature_divides_the_logits() -> None:
    logits = 20 * torch.randn(5, 4, dtype=torch.float64)
    assert float(outlier_exposure(logits, 3.0)) == pytest.approx(float(outlier_exposure(logits / 3)))


def test_at_a_fixed_weight_the_term_grows_with_the_scale() -> None:
    """The reason for the temperature: random cosines at AdaCos' scale and at 30."""
    cosines = 0.1 * torch.randn(20_000, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    small, large = (float(outlier_exposure(scale * cosines)) - math.log(10) for scale in (3.1, 30.0))
    assert 55 < large / small < 75
    assert float(outlier_exposure(30.0 * cosines, 30 / 3.1)) - math.log(10) == pytest.approx(small)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 10), st.integers(1, 10), st.integers(0, 2**31))
def test_energy_regularization_agrees_with_pytorch_ood(known: int, unknown: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 8 * torch.randn(known + unknown, 5, generator=generator, dtype=torch.float64)
    labels = torch.cat([torch.randint(5, (known,), generator=generator), torch.full((unknown,), -1)])
    whole = EnergyRegularizedLoss(alpha=1.0, margin_in=-9.0, margin_out=-4.0)(logits, labels)
    plain = functional.cross_entropy(logits[:known], labels[:known])
    found = energy_regularization(logits, labels >= 0, -9.0, -4.0)
    assert float(found) == pytest.approx(float(whole - plain), rel=1e-6, abs=1e-9)


def test_energy_regularization_is_zero_beyond_its_margins() -> None:
    logits = torch.tensor([[30.0, 0.0], [1.0, 0.0]])
    assert float(energy_regularization(logits, torch.tensor([True, False]), -25.0, -7.0)) == 0
    assert float(energy_regularization(logits, torch.tensor([False, True]), -25.0, -7.0)) > 0
