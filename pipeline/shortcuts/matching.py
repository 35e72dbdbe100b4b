"""AUROC at equal sharpness: what a result is worth where OOD images are no sharper and no blurrier than ID images.

A set that went through another camera, codec or resizing is sharper or blurrier than ID as a whole. A classifier that
learned "sharp" in place of "unknown" is then right for the wrong reason, and the plain AUROC praises it. So each OOD
image is compared only with ID images of its own sharpness, within a caliper (Rosenbaum & Rubin 1985); where too few OOD
images have such a counterpart, or sharpness still separates the pairs, there is no number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from pipeline.artifacts.images import ImageFile
from pipeline.evaluation.intervals import bounded, half_width, images_variance
from pipeline.shortcuts.audit import AT_ONCE, sharpness

AROUND = 20  # ID images that an OOD image is compared with
CALIPER = 0.1  # standard deviations of the ID images that each of these may be away
FEWEST, SMALLEST_SHARE = 30, 0.2  # OOD images that have to be matched
BALANCED = 2.0  # points that the covariate's own AUROC over the pairs may be away from 50


def sharpness_of(file: ImageFile) -> pd.Series:
    """Sharpness of every image of a set by its key, from a piece at a time."""
    parts = map(file.read, range(len(file.sizes)))
    return pd.concat([pd.Series(_sharpness(part.pixels).double().numpy(), part.keys) for part in parts])


def _sharpness(pixels: torch.Tensor) -> torch.Tensor:
    """A few photographs at a time: as numbers they take many times their bytes."""
    at_once = max(1, AT_ONCE // pixels[0].numel())
    return torch.cat([sharpness(part) for part in pixels.split(at_once)])


def auroc(won: np.ndarray) -> np.ndarray:
    """AUROC in percent over the pairs, (seeds,), of `Match.won`."""
    return 100 * won.mean(axis=(1, 2))


@dataclass(frozen=True)
class Match:
    """Which ID images each OOD image of a set is compared with.

    Attributes:
        id_covariate, ood_covariate: float (n,) and (m,), the number that images are matched by.
    """

    id_covariate: np.ndarray
    ood_covariate: np.ndarray

    @cached_property
    def _around(self) -> tuple[np.ndarray, np.ndarray]:
        """OOD images, int (k,), and the ID images around each in the order of the covariate, int (k, AROUND)."""
        order = np.argsort(self.id_covariate, kind="stable")
        if len(order) < AROUND:
            return np.empty(0, int), np.empty((0, AROUND), int)
        first, last = (
            np.searchsorted(self.id_covariate[order], self.ood_covariate, side) for side in ("left", "right")
        )
        starts = np.clip((first + last) // 2 - AROUND // 2, 0, len(order) - AROUND)
        beside = np.lib.stride_tricks.sliding_window_view(order, AROUND)[starts]
        away = np.abs(self.id_covariate[beside] - self.ood_covariate[:, None]).max(axis=1)
        matched = np.flatnonzero(away <= CALIPER * self.id_covariate.std())
        return matched, beside[matched]

    @property
    def share(self) -> float:
        """Of the OOD images that are matched, 0..1."""
        return len(self._around[0]) / len(self.ood_covariate)

    @property
    def own(self) -> float:
        """AUROC of the covariate itself over the pairs in percent, about 50 where they are alike; NaN without pairs."""
        return auroc(self.won(self.id_covariate[None], self.ood_covariate[None]))[0] if self.share else float("nan")

    @property
    def holds(self) -> bool:
        """Enough OOD images are matched, and the covariate does not separate the pairs."""
        enough = len(self._around[0]) >= FEWEST and self.share >= SMALLEST_SHARE
        return enough and abs(self.own - 50) <= BALANCED

    def won(self, id_scores: np.ndarray, ood_scores: np.ndarray) -> np.ndarray:
        """1 where the OOD image of a pair has the larger score, 1/2 where they tie, else 0: (seeds, k, AROUND).

        Args:
            id_scores, ood_scores: (seeds, n) and (seeds, m), larger for OOD.
        """
        matched, beside = self._around
        scores, others = ood_scores[:, matched, None], id_scores[:, beside]
        return (others < scores) + (others == scores) / 2

    def images_variance(self, won: np.ndarray) -> float:
        """Variance of the mean AUROC over seeds that the images cause in all of them alike, see `intervals`.

        By the infinitesimal jackknife: the sum over images of the squares of what each moves the AUROC by, of `won`.
        """
        beside = self._around[1]
        moved = 100 * (won - won.mean(axis=(1, 2), keepdims=True)) / beside.size
        by_id = [np.bincount(beside.ravel(), own.ravel(), len(self.id_covariate)) for own in moved]
        influence = np.concatenate([moved.sum(axis=2), by_id], axis=1)  # of mean 0, so that its variance is the sum's
        return float(images_variance(influence)) * (influence.shape[1] - 1)


def matches(sharp: Mapping[str, pd.Series]) -> dict[str, Match]:
    """The OOD sets, matched with `test`; of sharpness by key."""
    own = {name: values.sort_index().to_numpy() for name, values in sharp.items()}
    return {name: Match(own["test"], values) for name, values in own.items() if name != "test"}


def at_equal_sharpness(
    scores: pd.DataFrame, detector: str, matched: Mapping[str, Match]
) -> dict[str, dict[str, dict[str, float]]]:
    """recipe -> set -> {value, low, high}: mean over seeds of the AUROC at equal sharpness in %, 95 % interval.

    Args:
        scores: one row per image, see `summaries.NAMES`.
        matched: of `matches`; sets that do not hold have no value.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    held = {name: own for name, own in matched.items() if own.holds}
    for recipe, model in scores.groupby("recipe", sort=False, observed=True):
        by_set = {
            str(name): own.pivot(index="seed", columns="key", values=detector).to_numpy()  # keys in order
            for name, own in model.groupby("set", sort=False, observed=True)
            if name == "test" or name in held
        }
        found[str(recipe)] = {name: _with_interval(own, by_set["test"], by_set[name]) for name, own in held.items()}
    return found


def _with_interval(match: Match, id_scores: np.ndarray, ood_scores: np.ndarray) -> dict[str, float]:
    won = match.won(id_scores, ood_scores)
    by_seed = auroc(won)
    half = half_width(by_seed, np.array(match.images_variance(won)))
    smaller = min(id_scores.shape[1], round(match.share * ood_scores.shape[1]))
    low, high = bounded(by_seed.mean(), half, np.array(smaller))
    return {"value": float(by_seed.mean()), "low": float(low), "high": float(high)}
