"""Every recipe against every other on the same images, with confidence intervals of two levels, see `intervals`."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pandas as pd

from pipeline.evaluation.intervals import bounded, half_width, images_variance, p_value

COMPARED = ("auroc", "fpr95")
AT_A_TIME = 20_000_000  # weights held at a time


@dataclass(frozen=True)
class Group:
    """Scores of several recipes on the same images.

    Attributes:
        id_scores: recipe -> float (models, n), of ID images.
        ood_scores: set -> recipe -> float (models, m), of OOD images.
        models_per_unit: so many models in a row vary together: 1 where each has its training seed, more where runs of
            several seeds each are pooled.
    """

    id_scores: Mapping[str, np.ndarray]
    ood_scores: Mapping[str, Mapping[str, np.ndarray]]
    models_per_unit: int = 1

    def by_unit(self, values: np.ndarray, axis: int) -> np.ndarray:
        """The means over each unit's models, which lie along an axis."""
        before, after = values.shape[:axis], values.shape[axis + 1 :]
        return values.reshape(*before, -1, self.models_per_unit, *after).mean(axis + 1)


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
    """Metrics of every recipe's units on images drawn again, by detector: (recipes, 1 + sets, 2, units, times).

    The same images for all, so that what two recipes share cancels out. The first of the second axis is the unweighted
    mean over the sets; the third axis is `COMPARED`.

    Args:
        groups: detector -> its scores, all of the same recipes, models, sets and images.
    """
    one = next(iter(groups.values()))
    (models, images), sets = next(iter(one.id_scores.values())).shape, list(one.ood_scores)
    counts = {name: next(iter(one.ood_scores[name].values())).shape[1] for name in sets}
    values = {name: np.empty((len(one.id_scores), len(sets), 2, models, times)) for name in groups}
    size = max(1, AT_A_TIME // (images + max(counts.values())))
    for start in range(0, times, size):
        block = slice(start, min(start + size, times))
        id_weights = draw(random, images, block.stop - start)
        for j, name in enumerate(sets):
            weights = id_weights, draw(random, counts[name], block.stop - start)
            for detector, group in groups.items():
                for i, recipe in enumerate(group.id_scores):
                    pairs = zip(group.id_scores[recipe], group.ood_scores[name][recipe], strict=True)
                    for model, pair in enumerate(pairs):
                        values[detector][i, j, :, model, block] = resampled(*pair, *weights)
    return {name: groups[name].by_unit(_over_sets(own), axis=3) for name, own in values.items()}


def _over_sets(by_set: np.ndarray) -> np.ndarray:
    """The mean over the sets, the second axis, before each of them."""
    return np.concatenate([by_set.mean(axis=1, keepdims=True), by_set], axis=1)


def observed(group: Group) -> np.ndarray:
    """The metrics themselves, of each unit: (recipes, 1 + sets, 2, units)."""
    columns = []
    for scores in group.ood_scores.values():
        values = [
            np.stack(
                [resampled(*pair, *map(_once, pair))[:, 0] for pair in zip(group.id_scores[name], own, strict=True)]
            )
            for name, own in scores.items()
        ]
        columns.append(np.stack(values).swapaxes(1, 2))
    return group.by_unit(_over_sets(np.stack(columns, axis=1)), axis=3)


def _once(scores: np.ndarray) -> np.ndarray:
    return np.ones((1, len(scores)), np.int32)


def differences(groups: Mapping[str, Group], name: str, times: int, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every recipe against every other, and every recipe by itself, with 95 % intervals, by detector.

    Args:
        groups: detector -> scores on the sets of one group.
        name: of the group.
        times: samples drawn.
        seed: of the draws.

    Returns:
        Two frames, in percentage points: `detector, recipe, reference, set, metric, delta, low, high, p`, and
        `detector, recipe, set, metric, value, low, high`. `set` is a set's name, or the group's for the mean over them.
        `p` is of one comparison alone; `holm` adjusts those that are read together.
    """
    drawn = bootstrap(groups, times, np.random.default_rng(seed))
    found = {detector: _compare(group, name, drawn[detector]) for detector, group in groups.items()}
    pairs, own = zip(*([frame.assign(detector=key) for frame in both] for key, both in found.items()), strict=True)
    return pd.concat(pairs), pd.concat(own)


def _compare(group: Group, name: str, samples: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    values, recipes = observed(group), list(group.id_scores)
    pairs = list(permutations(range(len(recipes)), 2))
    deltas = np.array([values[i] - values[j] for i, j in pairs]).reshape(-1, *values.shape[1:])
    variances = np.array([images_variance(samples[i] - samples[j]) for i, j in pairs]).reshape(deltas.shape[:-1])
    delta, half = deltas.mean(axis=-1), half_width(deltas, variances)
    found = {"delta": delta, "low": delta - half, "high": delta + half, "p": p_value(deltas, variances)}
    value = values.mean(axis=-1)
    low, high = bounded(value, half_width(values, images_variance(samples)), _images(group))
    sets = [name, *group.ood_scores]
    own = _rows({"recipe": recipes}, sets, {"value": value, "low": low, "high": high})
    about = {"recipe": [recipes[i] for i, _ in pairs], "reference": [recipes[j] for _, j in pairs]}
    return _rows(about, sets, found), own


def _images(group: Group) -> np.ndarray:
    """The smaller number of ID and OOD images, of the whole group and of each set: (1 + sets, 1)."""
    ood = [next(iter(scores.values())).shape[1] for scores in group.ood_scores.values()]
    return np.minimum(next(iter(group.id_scores.values())).shape[1], [[sum(ood)], *([count] for count in ood)])


def _rows(about: Mapping[str, list[str]], sets: list[str], columns: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """One row per item, set and metric, of columns (items, sets, metrics); `about` names the items."""
    each = len(sets) * len(COMPARED)
    frame = pd.DataFrame({key: np.repeat(np.array(names, object), each) for key, names in about.items()})
    items = len(frame) // each
    frame["set"] = np.tile(np.repeat(np.array(sets, object), len(COMPARED)), items)
    frame["metric"] = np.tile(np.array(COMPARED, object), items * len(sets))
    return frame.assign(**{key: own.ravel() for key, own in columns.items()})
