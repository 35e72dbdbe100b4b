"""AUROC at equal sharpness against brute force, and on scores that know sharpness and nothing else."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from pipeline.artifacts import images
from pipeline.artifacts.codec import encode_png
from pipeline.artifacts.images import ImageFile, Picture, Preprocessing
from pipeline.reporting.tables import NONE, matched_frame
from pipeline.shortcuts import matching
from pipeline.shortcuts.audit import sharpness
from pipeline.shortcuts.matching import AROUND, CALIPER, Match, at_equal_sharpness, matches, sharpness_of

RANDOM = np.random.default_rng(0)


def auroc(match: Match, id_scores: np.ndarray, ood_scores: np.ndarray) -> float:
    return float(matching.auroc(match.won(id_scores[None], ood_scores[None]))[0])


@given(st.integers(0, 2**32 - 1), st.integers(AROUND, 200), st.integers(1, 40), st.booleans())
def test_it_is_the_share_of_pairs_with_the_neighbours_in_order(seed: int, n: int, m: int, tied: bool) -> None:
    random = np.random.default_rng(seed)
    scores, others = random.integers(0, 9, n).astype(float), random.integers(0, 9, m).astype(float)
    numbers, of_others = random.normal(size=n), random.normal(size=m)
    if tied:
        numbers, of_others = numbers.round(1), of_others.round(1)
    order = sorted(range(n), key=lambda i: numbers[i])
    wins, matched = [], 0
    for score, number in zip(others, of_others, strict=True):
        middle = (sum(numbers < number) + sum(numbers <= number)) // 2
        start = min(max(middle - AROUND // 2, 0), n - AROUND)
        beside = order[start : start + AROUND]
        if all(abs(numbers[i] - number) <= CALIPER * numbers.std() for i in beside):
            matched += 1
            wins += [1.0 if scores[i] < score else 0.5 if scores[i] == score else 0.0 for i in beside]
    match = Match(numbers, of_others)
    assert match.share == pytest.approx(matched / m)
    if matched:
        assert auroc(match, scores, others) == pytest.approx(100 * np.mean(wins))


def test_a_score_of_sharpness_is_worth_nothing_and_one_of_content_keeps_its_worth() -> None:
    of_id, of_ood = RANDOM.normal(0, 1, 20_000), RANDOM.normal(0.7, 1, 2_000)
    assert roc_auc_score(np.repeat([0, 1], [20_000, 2_000]), np.concatenate([of_id, of_ood])) > 0.65
    match = Match(of_id, of_ood)
    assert match.holds and match.share > 0.95 and match.own == pytest.approx(50, abs=0.5)
    assert auroc(match, of_id**3, of_ood**3) == match.own  # whatever the scale of the score
    scores, others = RANDOM.normal(0, 1, 20_000), RANDOM.normal(1, 1, 2_000)
    assert auroc(match, scores, others) == pytest.approx(76.0, abs=2)  # Phi(1 / sqrt 2)


def test_what_has_no_counterpart_is_not_compared() -> None:
    """Half of the OOD images are sharper than any ID image, and a score of sharpness finds them all."""
    of_id = RANDOM.normal(0, 1, 5_000)
    of_ood = np.concatenate([RANDOM.normal(0, 0.5, 500), RANDOM.normal(9, 0.5, 500)])
    match = Match(of_id, of_ood)
    assert match.share == pytest.approx(0.5, abs=0.02) and match.own == pytest.approx(50, abs=0.5) and match.holds


@pytest.mark.parametrize(
    ("of_id", "of_ood"),
    [
        (RANDOM.normal(0, 1, 1000), RANDOM.normal(8, 1, 1000)),  # nothing in common
        (RANDOM.normal(0, 1, 1000), np.concatenate([RANDOM.normal(0, 1, 100), np.full(900, 9.0)])),  # hardly anything
        (RANDOM.normal(0, 1, 1000), RANDOM.normal(0, 1, 20)),  # too few
        (RANDOM.normal(0, 1, 15), RANDOM.normal(0, 1, 1000)),  # too few on the other side
        (np.arange(1000.0), np.full(100, 1000.0)),  # beyond the last, though within the caliper
    ],
)
def test_sets_that_cannot_be_matched_are_not(of_id: np.ndarray, of_ood: np.ndarray) -> None:
    assert not Match(of_id, of_ood).holds


def test_images_of_one_sharpness_are_all_alike() -> None:
    match = Match(np.ones(100), np.ones(50))
    assert match.holds and match.share == 1 and match.own == 50


@pytest.mark.parametrize("seeds", [1, 4])
def test_the_variance_of_the_images_is_that_of_other_draws_of_them(seeds: int) -> None:
    """Of the mean over models; what is drawn for each model by itself belongs to the seeds, not to the images."""
    random = np.random.default_rng(0)
    shared, values, variances = 0.7, [], []
    for _ in range(600):
        of_id, of_ood = random.normal(0, 1, 300), random.normal(0.3, 0.7, 120)
        pictures = random.normal(0, 1, 300), random.normal(1, 1, 120)
        scores = [
            np.sqrt(shared) * own + np.sqrt(1 - shared) * random.normal(size=(seeds, len(own))) for own in pictures
        ]
        match = Match(of_id, of_ood)
        won = match.won(*scores)
        values.append(matching.auroc(won))
        variances.append(match.images_variance(won))
    between = np.cov(np.array(values).T)
    expected = between.item() if seeds == 1 else between[np.triu_indices(seeds, 1)].mean()
    assert np.mean(variances) == pytest.approx(expected, rel=0.12)


def test_sharpness_of_a_set_by_key(tmp_path: Path) -> None:
    pixels = RANDOM.integers(0, 256, (2_300, 1, 8, 8), dtype=np.uint8)
    pictures = [Picture(f"k{i}", encode_png(own), -1) for i, own in enumerate(pixels)]
    images.write(tmp_path / "moon.parquet", pictures, ["a"], "near", Preprocessing(8))
    found = sharpness_of(ImageFile(tmp_path / "moon.parquet"))
    assert list(found.index) == [f"k{i}" for i in range(2_300)]
    np.testing.assert_allclose(found.to_numpy(), sharpness(torch.from_numpy(pixels)).numpy(), rtol=1e-6)


def test_values_by_set_and_what_is_not_matched_has_none() -> None:
    rows, sharp = [], {}
    for name, role, count, shift in (("test", "id", 400, 0), ("moon", "near", 90, 0), ("sun", "far", 70, 50)):
        keys = [f"{name}{i}" for i in range(count)]
        sharp[name] = pd.Series(RANDOM.normal(shift, 1, count), keys)
        for seed in (0, 1, 2):
            own = {"recipe": "r", "seed": seed, "set": name, "role": role}
            rows += [own | {"key": key, "msp": float(RANDOM.normal())} for key in keys]
    scores, matched = pd.DataFrame(rows), matches(sharp)

    def of(seed: int) -> float:
        own = scores[scores["seed"] == seed].set_index("key")["msp"]
        match = Match(sharp["test"].to_numpy(), sharp["moon"].to_numpy())
        return auroc(match, own[sharp["test"].index].to_numpy(), own[sharp["moon"].index].to_numpy())

    found = at_equal_sharpness(scores.sample(frac=1, random_state=0), "msp", matched)
    assert set(found["r"]) == {"moon"}
    assert found["r"]["moon"]["value"] == pytest.approx(np.mean([of(seed) for seed in (0, 1, 2)]))
    assert found["r"]["moon"]["low"] < found["r"]["moon"]["value"] < found["r"]["moon"]["high"]
    frame = matched_frame(found, matched)
    assert frame.iloc[0].tolist()[2] == "not matched" and frame.iloc[1].tolist()[2] == NONE
    assert frame.iloc[2].tolist()[1:] == [f"{matched['moon'].share:.0%}", "0%"]
