"""AUROC at equal sharpness: what a result is worth where OOD images are no sharper and no blurrier than ID images.

A set that went through another camera, codec or resizing is sharper or blurrier than ID as a whole. A classifier that
learned "sharp" in place of "unknown" is then right for the wrong reason, and the plain AUROC praises it.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from pipeline.artifacts.images import ImageFile
from pipeline.artifacts.roles import OOD_ROLES
from pipeline.evaluation.summaries import spread
from pipeline.shortcuts.audit import sharpness

AROUND = 50  # ID images that an OOD image is held against


def sharpness_of(file: ImageFile) -> pd.Series:
    """Sharpness of every image of a set by its key, from a piece at a time."""
    parts = map(file.read, range(len(file.sizes)))
    return pd.concat([pd.Series(sharpness(part.pixels).double().numpy(), part.keys) for part in parts])


def matched_auroc(known: np.ndarray, unknown: np.ndarray, of_known: np.ndarray, of_unknown: np.ndarray) -> float:
    """Percent of pairs in which the OOD image has the larger score, of pairs alike in some number; ties count half.

    Each OOD image is paired with the `AROUND` ID images around it in the number's order, or with all if there are
    fewer. With one value of the number for all images it is the AUROC against as many ID images.

    Args:
        known, unknown: scores of ID and OOD images, larger for OOD, (n,) and (m,).
        of_known, of_unknown: their numbers.
    """
    order = np.argsort(of_known, kind="stable")
    around = min(AROUND, len(known))
    windows = np.lib.stride_tricks.sliding_window_view(known[order], around)
    middles = np.searchsorted(of_known[order], of_unknown)
    beside = windows[np.clip(middles - around // 2, 0, len(windows) - 1)]
    return float(100 * np.mean((beside < unknown[:, None]) + (beside == unknown[:, None]) / 2))


def at_equal_sharpness(
    scores: pd.DataFrame, detector: str, sharp: Mapping[str, pd.Series]
) -> dict[str, dict[str, dict[str, float]]]:
    """recipe -> near, far -> {mean, std} over seeds of the AUROC at equal sharpness, the unweighted mean over sets.

    Args:
        scores: a row an image, see `summaries.NAMES`.
        sharp: set -> sharpness by key, of `test` and of every OOD test set.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for (recipe, _), model in scores.groupby(["recipe", "seed"], sort=False, observed=True):
        sets = {str(name): own for name, own in model.groupby("set", sort=False, observed=True) if name in sharp}
        numbers = {name: sharp[name].loc[own["key"]].to_numpy() for name, own in sets.items()}
        values = {name: own[detector].to_numpy() for name, own in sets.items()}
        for role in OOD_ROLES["test"]:
            names = [name for name, own in sets.items() if own["role"].iloc[0] == role]
            aurocs = [matched_auroc(values["test"], values[name], numbers["test"], numbers[name]) for name in names]
            if aurocs:
                found.setdefault(str(recipe), {}).setdefault(role, []).append(float(np.mean(aurocs)))
    return {recipe: {role: spread(pd.Series(own)) for role, own in groups.items()} for recipe, groups in found.items()}
