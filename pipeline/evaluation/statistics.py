"""Is a difference more than chance? A paired bootstrap over images and seeds.

Images of each set and seeds are drawn again with replacement, the same ones for every recipe, so that what two recipes
share cancels out. With a few seeds an interval leaves zero out only where nearly every seed agrees by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

COMPARED = ("auroc", "fpr95")
LOWER_IS_BETTER = ("fpr95", "fpr95_id_positive")
INTERVAL = (2.5, 97.5)  # percentiles: 95 %
AT_A_TIME = 20_000_000  # weights held at a time


@dataclass(frozen=True)
class Group:
    """Scores of several recipes on the same images.

    Attributes:
        id_scores: recipe -> float (seeds, n), of ID images.
        ood_scores: set -> recipe -> float (seeds, m), of OOD images.
    """

    id_scores: Mapping[str, np.ndarray]
    ood_scores: Mapping[str, Mapping[str, np.ndarray]]


def draw(random: np.random.Generator, count: int, times: int) -> np.ndarray:
    """How often each of `count` items is drawn in `count` draws with replacement, uint16 (times, count)."""
    drawn = np.empty((times, count), np.uint16)
    for row in drawn:
        row[:] = np.bincount(random.integers(count, size=count, dtype=np.int32), minlength=count)
    return drawn


def _running(weights: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Sums of the weights of the first 0, 1, ... items in an order, int32 (times, count + 1)."""
    sums = np.zeros((len(weights), len(order) + 1), np.int32)
    np.cumsum(np.take(weights, order, axis=1), axis=1, out=sums[:, 1:])
    return sums


def resampled(
    id_scores: np.ndarray, ood_scores: np.ndarray, id_weights: np.ndarray, ood_weights: np.ndarray
) -> np.ndarray:
    """AUROC and FPR95 in percent, (2, times), of samples in which each image stands as often as its weight says.

    Of the images written out, ties included; FPR95 at the very first threshold that catches 95 %, see `metrics`.

    Args:
        id_scores: ID scores (n,); ood_scores: OOD scores (m,).
        id_weights: (times, n), of row sum n; ood_weights: (times, m), of row sum m.
    """
    n, m = len(id_scores), len(ood_scores)
    ascending = np.sort(ood_scores)
    below = _running(ood_weights, np.argsort(ood_scores))  # OOD images before position i, in ascending order
    first, last = (np.searchsorted(ascending, id_scores, side) for side in ("left", "right"))
    missed = below[:, first] + below[:, last]  # twice the OOD images below each ID image, ties counted as one half
    auroc = 1 - np.einsum("bj,bj->b", id_weights, missed, dtype=np.float64) / (2 * n * m)
    starts = np.flatnonzero(np.diff(ascending, prepend=-np.inf) > 0)  # thresholds: distinct scores, once each
    reach = (below <= 0.05 * m + 1e-9).sum(axis=1) - 1  # so many OOD images may be missed, 5 % by weight
    allowed = np.searchsorted(starts, np.minimum(reach, m - 1), "right") - 1
    passed = _running(id_weights, np.argsort(id_scores))
    position = np.searchsorted(np.sort(id_scores), ascending[starts[allowed]], "left")
    fpr95 = 1 - passed[np.arange(len(passed)), position] / n
    return 100 * np.stack([auroc, fpr95])


def bootstrap(groups: Mapping[str, Group], times: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Metrics of every recipe in samples drawn again, by detector: (recipes, 1 + sets, 2, times).

    The same images and seeds for all. The first of the second axis is the unweighted mean over the sets; the third axis
    is `COMPARED`.

    Args:
        groups: detector -> its scores, all of the same recipes, seeds, sets and images.
    """
    one = next(iter(groups.values()))
    (seeds, images), sets = next(iter(one.id_scores.values())).shape, list(one.ood_scores)
    counts = {name: next(iter(one.ood_scores[name].values())).shape[1] for name in sets}
    drawn = draw(random, seeds, times) / seeds  # (times, seeds)
    values = {name: np.empty((len(one.id_scores), len(sets), seeds, 2, times)) for name in groups}
    size = max(1, AT_A_TIME // (images + max(counts.values())))
    for start in range(0, times, size):
        block = slice(start, min(start + size, times))
        id_weights = draw(random, images, block.stop - start)
        for j, name in enumerate(sets):
            weights = id_weights, draw(random, counts[name], block.stop - start)
            for detector, group in groups.items():
                for i, recipe in enumerate(group.id_scores):
                    pairs = zip(group.id_scores[recipe], group.ood_scores[name][recipe], strict=True)
                    for seed, pair in enumerate(pairs):
                        values[detector][i, j, seed, :, block] = resampled(*pair, *weights)
    return {name: _over_sets(np.einsum("rcsmb,bs->rcmb", own, drawn)) for name, own in values.items()}


def _over_sets(by_set: np.ndarray) -> np.ndarray:
    """The mean over the sets, the second axis, before each of them."""
    return np.concatenate([by_set.mean(axis=1, keepdims=True), by_set], axis=1)


def observed(group: Group) -> np.ndarray:
    """The metrics themselves, the means over seeds: (recipes, 1 + sets, 2)."""
    columns = []
    for scores in group.ood_scores.values():
        values = [
            np.mean(
                [resampled(a, b, _once(a), _once(b))[:, 0] for a, b in zip(group.id_scores[name], own, strict=True)], 0
            )
            for name, own in scores.items()
        ]
        columns.append(np.stack(values))
    return _over_sets(np.stack(columns, axis=1))


def _once(scores: np.ndarray) -> np.ndarray:
    return np.ones((1, len(scores)), np.int32)


def verdict(low: float, high: float, metric: str) -> str:
    """`better` or `worse` where the whole interval of a difference lies on one side of zero."""
    if low <= 0 <= high:
        return "no difference"
    return "better" if (high < 0) == (metric in LOWER_IS_BETTER) else "worse"


def differences(groups: Mapping[str, Group], name: str, times: int, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every recipe against every other, and every recipe by itself, with 95 % intervals, by detector.

    Args:
        groups: detector -> scores on the sets of one group.
        name: of the group.
        times: samples drawn.
        seed: of the draws.

    Returns:
        Two frames, in percentage points: `detector, recipe, reference, set, metric, delta, low, high, verdict`, and
        `detector, recipe, set, metric, value, low, high`. `set` is a set's name, or the group's for the mean over them.
    """
    drawn = bootstrap(groups, times, np.random.default_rng(seed))
    found = [_compare(group, name, drawn[detector]) for detector, group in groups.items()]
    frames = [[frame.assign(detector=detector) for frame in own] for detector, own in zip(groups, found, strict=True)]
    return pd.concat([pairs for pairs, _ in frames]), pd.concat([own for _, own in frames])


def _compare(group: Group, name: str, samples: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    values, recipes, sets = observed(group), list(group.id_scores), [name, *group.ood_scores]
    pairs, own = [], []
    for i, recipe in enumerate(recipes):
        for k, column in enumerate(sets):
            for m, metric in enumerate(COMPARED):
                low, high = np.percentile(samples[i, k, m], INTERVAL)
                about = {"recipe": recipe, "set": column, "metric": metric}
                own.append(about | {"value": values[i, k, m], "low": low, "high": high})
                for j, reference in enumerate(recipes):
                    if i != j:
                        low, high = np.percentile(samples[i, k, m] - samples[j, k, m], INTERVAL)
                        delta = values[i, k, m] - values[j, k, m]
                        row = {"delta": delta, "low": low, "high": high, "verdict": verdict(low, high, metric)}
                        pairs.append(about | {"reference": reference} | row)
    names = ["recipe", "set", "metric", "reference", "delta", "low", "high", "verdict"]
    return pd.DataFrame(pairs, columns=names), pd.DataFrame(own)
