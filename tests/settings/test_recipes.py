"""What a recipe's `auxiliary` says, and how many images of each method that is."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.settings.recipes import Recipe


def test_a_list_means_equal_shares() -> None:
    recipe = Recipe.model_validate({"auxiliary": ["noise", "cut-mix", "boundary"]})
    assert recipe.counts(1350) == {"noise": 450, "cut-mix": 450, "boundary": 450}


def test_shares() -> None:
    recipe = Recipe.model_validate({"auxiliary": {"noise": 1, "cut-mix": 4, "boundary": 1}})
    assert recipe.counts(1350) == {"noise": 225, "cut-mix": 900, "boundary": 225}
    assert Recipe().counts(1350) == {}


@given(
    st.dictionaries(st.text(min_size=1), st.integers(1, 50), min_size=1, max_size=6),
    st.integers(1, 10_000),
)
def test_shares_are_kept_to_within_an_image(shares: dict[str, int], total: int) -> None:
    found = Recipe(auxiliary=shares).counts(total)
    assert list(found) == list(shares) and total - len(shares) < sum(found.values()) <= total
    for method, share in shares.items():
        assert abs(found[method] - total * share / sum(shares.values())) < 1


@pytest.mark.parametrize(
    "auxiliary", [["noise", "noise"], {"noise": 0}, {"noise": -1}, {"noise": "many"}, "noise", [1]]
)
def test_what_is_no_share_is_refused(auxiliary: object) -> None:
    with pytest.raises(ValidationError, match="auxiliary"):
        Recipe.model_validate({"auxiliary": auxiliary})


EXPOSURE, ENERGY = {"weight": 0.5, "temperature": 1.0}, {"weight": 0.1, "margin_in": -5.0, "margin_out": -1.0}
MICL = {"weight": 0.1, "estimator": "club", "fitting_steps": 1, "learning_rate": 0.1}
TERMS = {"outlier_exposure": EXPOSURE, "energy_regularization": ENERGY, "micl": MICL}


@pytest.mark.parametrize("used", [names for n in range(4) for names in combinations(TERMS, n)])
@pytest.mark.parametrize("outliers", [(), ("noise",), ("boundary",), ("noise", "boundary")])
@pytest.mark.parametrize("id_images", [False, True])
def test_terms_and_auxiliary_images_go_together_or_are_refused(
    used: tuple[str, ...], outliers: tuple[str, ...], id_images: bool
) -> None:
    """By hand: outliers and terms need each other; MICL alone reads no image, and pairs by parent class."""
    said = Recipe.model_validate({name: TERMS[name] for name in used}).misfit(
        has_outliers=bool(outliers), has_id_images=id_images, has_parents="boundary" in outliers or id_images
    )
    if not used:
        assert (said is None) == (not outliers) and (said is None or "no term that uses them" in said)
    elif not outliers:
        assert said is not None and said.startswith(f"{' and '.join(used)} without outliers")
    elif used == ("micl",) and id_images:
        assert said is not None and "micl alone" in said
    elif "micl" in used and outliers == ("noise",) and not id_images:
        assert said is not None and "made from ID classes" in said
    else:
        assert said is None


@pytest.mark.parametrize("used", [(), ("micl",), ("outlier_exposure",), ("energy_regularization", "micl")])
def test_virtual_outliers_need_a_term_that_sees_them(used: tuple[str, ...]) -> None:
    content = {name: TERMS[name] for name in used} | {"virtual_outliers": {"kind": "permuted"}}
    said = Recipe.model_validate(content).misfit(has_outliers=False, has_id_images=False, has_parents=True)
    seen = set(used) & {"outlier_exposure", "energy_regularization"}
    assert (said is None) == bool(seen) and (said is None or said.startswith("virtual_outliers, and no term"))


@pytest.mark.parametrize("outliers", [False, True])
def test_outliers_around_others_need_others(outliers: bool) -> None:
    content = {"virtual_outliers": {"kind": "around", "sigma": 0.5}, "outlier_exposure": EXPOSURE}
    said = Recipe.model_validate(content).misfit(has_outliers=outliers, has_id_images=False, has_parents=False)
    assert said is None if outliers else said is not None and said.endswith("name some under auxiliary")


@pytest.mark.parametrize("virtual", [
    {"kind": "mixture", "ratio": [0.7, 0.3]}, {"kind": "mixture", "ratio": [0.5]},
    {"kind": "mixture", "ratio": [0.0, 1.0]},
    {"kind": "attribution", "share": 0.1, "step": [1.0], "sign": "plus"}, {"kind": "attribution", "share": 0.1},
    {"kind": "nothing"},
])  # fmt: skip
def test_virtual_outliers_that_make_no_sense_are_refused(virtual: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="virtual_outliers"):
        Recipe.model_validate({"virtual_outliers": virtual})


@pytest.mark.parametrize(
    ("pairing", "vectors", "needed"),
    [
        ("random", "latents", False),
        ("class", "latents", False),
        ("within-class", "latents", True),
        ("random", "latents-and-features", True),
    ],
)
def test_micl_needs_a_teacher_where_it_looks_at_its_features(pairing: str, vectors: str, needed: bool) -> None:
    micl = {"weight": 1.0, "estimator": "club", "fitting_steps": 1, "learning_rate": 0.1}
    recipe = Recipe.model_validate({"micl": micl | {"pairing": pairing, "vectors": vectors}})
    assert recipe.needs_teacher == needed
    distilled = {"micl": micl, "logit_distillation": {"weight": 1.0, "temperature": 1.0}}
    assert Recipe.model_validate(distilled).needs_teacher
