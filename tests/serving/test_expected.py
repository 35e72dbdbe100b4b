"""p-values and the last line of `predict`, by simulation and by scipy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from pipeline.classifier.scores import p_values
from pipeline.serving.expected import fewest, summary

RANDOM = np.random.default_rng(0)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.lists(st.integers(-4, 4), max_size=20))
def test_a_p_value_is_a_share_of_the_validation_images_and_the_image(held_out: list[int], scores: list[int]) -> None:
    found = p_values(torch.tensor(scores).double(), torch.tensor(held_out).double().sort().values)
    expected = [(1 + sum(own >= score for own in held_out)) / (len(held_out) + 1) for score in scores]
    assert found.tolist() == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("validation", [19, 72, 500])
@pytest.mark.parametrize("ties", [False, True])
def test_at_most_that_share_of_known_images_is_called_unknown(rate: float, validation: int, ties: bool) -> None:
    """Over many models: exactly the largest multiple of 1 / (n + 1) up to the rate, and less where scores tie."""
    draws = RANDOM.normal(size=(4000, validation + 1))
    draws = draws.round() if ties else draws
    ps = [float(p_values(torch.tensor(own[:1]), torch.tensor(own[1:]).sort().values)) for own in draws]
    expected = int(rate * (validation + 1) + 1e-9) / (validation + 1)
    found, error = np.mean(np.array(ps) <= rate), np.sqrt(expected / 4000)
    assert found <= rate + 4 * error
    assert ties or found == pytest.approx(expected, abs=4 * error + 1e-9)


@pytest.mark.parametrize(("rate", "expected"), [(0.05, 19), (0.01, 99), (0.5, 1), (0.3, 3), (0.001, 999)])
def test_fewest_validation_images(rate: float, expected: int) -> None:
    assert fewest(rate) == expected
    for count, enough in ((expected, True), (expected - 1, False)):
        assert (float(p_values(torch.tensor([1.0]), torch.zeros(count))) <= rate) == enough


@pytest.mark.parametrize(("unknown", "images"), [(7, 75), (0, 10), (10, 10), (1, 1)])
def test_the_interval_is_clopper_and_pearsons(unknown: int, images: int) -> None:
    low = beta.ppf(0.025, unknown, images - unknown + 1) if unknown else 0.0
    high = beta.ppf(0.975, unknown + 1, images - unknown) if unknown < images else 1.0
    assert f"{unknown / images:.1%} [{low:.1%}, {high:.1%}]" in summary(unknown, images, 100, 0.05)


@pytest.mark.parametrize("validation", [40, 400])
@pytest.mark.parametrize("images", [20, 1000])
def test_known_images_are_seldom_said_to_be_more_than_chance(validation: int, images: int) -> None:
    """Known images alone, of 2,000 models: at most 5 % of the lines say so, however few validation images there are."""
    said = 0
    for _ in range(2000):
        held_out = torch.from_numpy(np.sort(RANDOM.normal(size=validation)))
        ps = p_values(torch.from_numpy(RANDOM.normal(size=images)), held_out)
        said += ": more than chance" in summary(int((ps <= 0.05).sum()), images, validation, 0.05)
    assert said / 2000 <= 0.065


def test_what_is_said() -> None:
    assert "5.0% of known images are expected to be: more than chance" in summary(30, 100, 500, 0.05)
    assert "no more than chance" in summary(6, 100, 500, 0.05)
    assert "no more than chance" in summary(12, 100, 40, 0.05)  # of 40 images the rate itself is uncertain
    assert "none can be" in summary(0, 100, 10, 0.05)
