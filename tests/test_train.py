"""What a recipe's `auxiliary` says, and how many images of each method that is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.train import Recipe, counts


def test_a_list_means_equal_shares() -> None:
    recipe = Recipe.model_validate({"auxiliary": ["noise", "cut-mix", "boundary"]})
    assert counts(recipe, 1350) == {"noise": 450, "cut-mix": 450, "boundary": 450}


def test_shares() -> None:
    recipe = Recipe.model_validate({"auxiliary": {"noise": 1, "cut-mix": 4, "boundary": 1}})
    assert counts(recipe, 1350) == {"noise": 225, "cut-mix": 900, "boundary": 225}
    assert counts(Recipe(), 1350) == {}


@given(
    st.dictionaries(st.text(min_size=1), st.integers(1, 50), min_size=1, max_size=6),
    st.integers(1, 10_000),
)
def test_shares_are_kept_to_within_an_image(shares: dict[str, int], total: int) -> None:
    found = counts(Recipe(auxiliary=shares), total)
    assert list(found) == list(shares) and total - len(shares) < sum(found.values()) <= total
    for method, share in shares.items():
        assert abs(found[method] - total * share / sum(shares.values())) < 1


@pytest.mark.parametrize(
    "auxiliary", [["noise", "noise"], {"noise": 0}, {"noise": -1}, {"noise": "many"}, "noise", [1]]
)
def test_what_is_no_share_is_refused(auxiliary: object) -> None:
    with pytest.raises(ValidationError, match="auxiliary"):
        Recipe.model_validate({"auxiliary": auxiliary})
