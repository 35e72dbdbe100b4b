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
from pipeline.shortcuts.audit import sharpness
from pipeline.shortcuts.matching import AROUND, at_equal_sharpness, matched_auroc, sharpness_of

RANDOM = np.random.default_rng(0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.integers(1, 40))
def test_it_is_the_share_of_pairs_with_the_neighbours_in_order(seed: int, known: int, unknown: int) -> None:
    random = np.random.default_rng(seed)
    scores, others = random.integers(0, 9, known).astype(float), random.integers(0, 9, unknown).astype(float)
    numbers, of_others = np.sort(random.normal(size=known)), random.normal(size=unknown)
    wins = []
    for score, number in zip(others, of_others, strict=True):
        start = min(max(sum(numbers < number) - min(AROUND, known) // 2, 0), max(0, known - AROUND))
        beside = scores[start : start + AROUND]
        wins.append(np.mean([1.0 if own < score else 0.5 if own == score else 0.0 for own in beside]))
    shuffled = random.permutation(known)
    found = matched_auroc(scores[shuffled], others, numbers[shuffled], of_others)
    assert found == pytest.approx(100 * np.mean(wins))


def test_with_few_images_it_is_the_plain_auroc() -> None:
    known, unknown = RANDOM.normal(size=AROUND), RANDOM.normal(1, 1, 70)
    expected = 100 * roc_auc_score(np.repeat([0, 1], [AROUND, 70]), np.concatenate([known, unknown]))
    assert matched_auroc(known, unknown, RANDOM.normal(size=AROUND), RANDOM.normal(size=70)) == pytest.approx(expected)


def test_a_score_of_sharpness_is_worth_nothing_and_one_of_content_keeps_its_worth() -> None:
    of_known, of_unknown = RANDOM.normal(0, 1, 20_000), RANDOM.normal(0.7, 1, 2_000)
    plain = roc_auc_score(np.repeat([0, 1], [20_000, 2_000]), np.concatenate([of_known, of_unknown]))
    assert plain > 0.65
    assert matched_auroc(of_known, of_unknown, of_known, of_unknown) == pytest.approx(50, abs=2)
    known, unknown = RANDOM.normal(0, 1, 20_000), RANDOM.normal(1, 1, 2_000)
    assert matched_auroc(known, unknown, of_known, of_unknown) == pytest.approx(76.0, abs=2)  # Phi(1 / sqrt 2)


def test_sharpness_of_a_set_by_key(tmp_path: Path) -> None:
    pixels = RANDOM.integers(0, 256, (2_300, 1, 8, 8), dtype=np.uint8)
    pictures = [Picture(f"k{i}", encode_png(own), -1) for i, own in enumerate(pixels)]
    images.write(tmp_path / "moon.parquet", pictures, ["a"], "near", Preprocessing(8))
    found = sharpness_of(ImageFile(tmp_path / "moon.parquet"))
    assert list(found.index) == [f"k{i}" for i in range(2_300)]
    np.testing.assert_allclose(found.to_numpy(), sharpness(torch.from_numpy(pixels)).numpy(), rtol=1e-6)


def test_means_over_sets_and_seeds() -> None:
    rows, sharp = [], {}
    for name, role in (("test", "id"), ("moon", "near"), ("mars", "near"), ("sun", "far")):
        keys = [f"{name}{i}" for i in range(60)]
        sharp[name] = pd.Series(RANDOM.normal(size=60), keys)
        for seed in (0, 1):
            own = {"recipe": "r", "seed": seed, "set": name, "role": role}
            rows += [own | {"key": key, "msp": float(RANDOM.normal())} for key in keys]
    scores = pd.DataFrame(rows)

    def of(seed: int, name: str) -> float:
        own = scores[scores["seed"] == seed]
        known, unknown = own[own["set"] == "test"], own[own["set"] == name]
        return matched_auroc(
            known["msp"].to_numpy(), unknown["msp"].to_numpy(),
            sharp["test"][known["key"]].to_numpy(), sharp[name][unknown["key"]].to_numpy(),
        )  # fmt: skip

    found = at_equal_sharpness(scores.sample(frac=1, random_state=0), "msp", sharp)
    near = [(of(seed, "moon") + of(seed, "mars")) / 2 for seed in (0, 1)]
    assert found["r"]["near"]["mean"] == pytest.approx(np.mean(near), abs=1e-3)
    assert found["r"]["near"]["std"] == pytest.approx(np.std(near), abs=1e-3)
    assert found["r"]["far"]["mean"] == pytest.approx((of(0, "sun") + of(1, "sun")) / 2, abs=1e-3)
