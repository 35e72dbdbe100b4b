"""OpenMax, and what detectors of our own refuse."""

import mpmath
import numpy as np
import pytest
import torch
from pytorch_ood.detector.openmax.libnotmr import LibNotMR

from pipeline.artifacts.outputs import Head, Outputs
from pipeline.evaluation.detectors import fit
from pipeline.evaluation.openmax import Weibull
from pipeline.runtime.errors import UserError
from tests.evaluation.published import Data, open_max
from tests.evaluation.test_published import HOSTILE, hostile

CASES = [pytest.param(*HOSTILE[name], id=name) for name in HOSTILE]


def data(classes: int, scale: float, silent: int, images: int = 3000) -> tuple[Outputs, Outputs, Head]:
    """Training and test outputs, and the head, of one kind."""
    train, head = hostile(classes, scale, silent, images, seed=1)
    test, _ = hostile(classes, scale, silent, 30, seed=2)
    return train, test, head


@pytest.mark.parametrize("spread", [1e-4, 0.1, 1.0, 30.0, 1e5])
@pytest.mark.parametrize("images", [2, 20, 200])
def test_the_weibull_distribution_is_the_likeliest(spread: float, images: int) -> None:
    """No shape near the one found is likelier, with the scale that is best for it; and libMR's copy agrees."""
    tail = 3 * spread + spread * torch.rand(images, generator=torch.Generator().manual_seed(images)).double()
    found, x = Weibull.fit(tail), 1 + (tail - tail.min()) / 1e4

    def likelihood(shape: float) -> mpmath.mpf:
        with mpmath.workdps(60):
            values, c = [mpmath.mpf(value) for value in x.tolist()], mpmath.mpf(shape)
            scale = mpmath.fsum(value**c for value in values) / len(values)  # to the power of the shape
            logs = mpmath.fsum(mpmath.log(value) for value in values)
            return len(values) * (mpmath.log(c) - mpmath.log(scale)) + (c - 1) * logs - len(values)

    assert all(likelihood(found.shape) >= likelihood(found.shape * factor) for factor in (0.999, 1.001))
    if spread in (1.0, 30.0) and images == 20:  # where scipy's optimiser, which that copy uses, converges
        reference = LibNotMR(tailsize=images)
        reference.fit_high(tail.numpy())
        points = torch.linspace(2.5 * spread, 5 * spread, 20).double()
        shares = -torch.expm1(found.log_survival(points))
        np.testing.assert_allclose(shares, reference.w_score(points.numpy()), atol=5e-3)


def test_equal_distances_divide_what_is_nearer_and_what_is_farther() -> None:
    found = Weibull.fit(torch.full((20,), 3.0, dtype=torch.float64))
    shares = -torch.expm1(found.log_survival(torch.tensor([2.999, 3.001], dtype=torch.float64)))
    assert shares.tolist() == [0.0, 1.0]
    assert float(found.log_survival(torch.tensor(-2e4, dtype=torch.float64))) == 0  # below the translation


@pytest.mark.parametrize(("classes", "scale", "silent"), CASES)
@pytest.mark.parametrize(("tail", "alpha"), [(20, 3), (5, 10), (1, 2000)])
def test_openmax(classes: int, scale: float, silent: int, tail: int, alpha: int) -> None:
    train, test, head = data(classes, scale, silent)
    found = fit("openmax", {"tail": tail, "alpha": alpha}, train, None, None)(test)
    expected = open_max(Data(train, train, test, head), tail, alpha)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_openmax_scores_an_image_alike_whatever_it_comes_with() -> None:
    train, test, _ = data(10, 1.0, 0)
    score = fit("openmax", {}, train, None, None)
    parts = (test.keys, test.labels, test.logits)
    alone = [score(Outputs(*(part[i : i + 1] for part in parts), None)) for i in range(5)]
    np.testing.assert_allclose(np.concatenate(alone), score(test)[:5], rtol=1e-9)


def test_openmax_of_one_class_and_of_a_class_never_answered_right() -> None:
    logits = torch.randn(40, 1, generator=torch.Generator().manual_seed(0))
    one = Outputs([str(i) for i in range(40)], torch.zeros(40, dtype=torch.int64), logits, None)
    assert np.isfinite(fit("openmax", {}, one, None, None)(one)).all()
    never = Outputs(one.keys, torch.ones(40, dtype=torch.int64), torch.cat([logits, logits - 1], dim=1), None)
    assert np.isfinite(fit("openmax", {}, never, None, None)(never)).all()


@pytest.mark.parametrize("name", ["relation", "weiper"])
def test_what_they_need_is_named(name: str) -> None:
    train, test, head = data(10, 1.0, 0)
    with pytest.raises(UserError, match=f"{name} is fitted on train.parquet"):
        fit(name, {}, None, test, head)
    with pytest.raises(UserError, match=rf"{name} needs the column `features`"):
        fit(name, {}, Outputs(train.keys, train.labels, train.logits, None), test, head)


@pytest.mark.parametrize("options", [{"tail": 0}, {"alpha": 0}, {"depth": 3}])
def test_openmax_refuses(options: dict[str, int]) -> None:
    train, _, _ = data(10, 1.0, 0)
    with pytest.raises(UserError, match="score.detectors.openmax"):
        fit("openmax", options, train, None, None)
