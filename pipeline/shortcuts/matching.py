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

AROUND = 50  # ID images that an OOD image is compared with


def sharpness_of(file: ImageFile) -> pd.Series:
    """Sharpness of every image of a set by its key, from a piece at a time."""
    parts = map(file.read, range(len(file.sizes)))
    return pd.concat([pd.Series(sharpness(part.pixels).double().numpy(), part.keys) for part in parts])


def matched_auroc(
    id_scores: np.ndarray, ood_scores: np.ndarray, id_covariate: np.ndarray, ood_covariate: np.ndarray
) -> float:
    """AUROC in percent over covariate-matched pairs; ties count half.

    Each OOD image is paired with the `AROUND` ID images around it in the order of the covariate, or with all if there
    are fewer. Where all images have one value it is the AUROC against as many ID images.

    Args:
        id_scores, ood_scores: scores of ID and OOD images, larger for OOD, (n,) and (m,).
        id_covariate, ood_covariate: the number that they are matched by, such as their sharpness.
    """
    order = np.argsort(id_covariate, kind="stable")
    around = min(AROUND, len(id_scores))
    windows = np.lib.stride_tricks.sliding_window_view(id_scores[order], around)
    middles = np.searchsorted(id_covariate[order], ood_covariate)
    beside = windows[np.clip(middles - around // 2, 0, len(windows) - 1)]
    return float(100 * np.mean((beside < ood_scores[:, None]) + (beside == ood_scores[:, None]) / 2))


def at_equal_sharpness(
    scores: pd.DataFrame, detector: str, sharp: Mapping[str, pd.Series]
) -> dict[str, dict[str, dict[str, float]]]:
    """recipe -> near, far -> {mean, std} over seeds of the AUROC at equal sharpness, the unweighted mean over sets.

    Args:
        scores: one row per image, see `summaries.NAMES`.
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
