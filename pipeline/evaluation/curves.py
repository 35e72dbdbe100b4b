"""ROC and precision-recall curves of one detector, as tables."""

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_curve, roc_curve

from pipeline.artifacts.roles import OOD_ROLES

POINTS = 200  # of each curve


def curves(scores: pd.DataFrame, detector: str) -> dict[str, pd.DataFrame]:
    """`roc` and `pr` curves by recipe and group, images of all seeds and sets pooled, thinned; OOD is positive.

    Args:
        scores: one row per image: recipe, set, role, and one column per detector.
    """
    found: dict[str, list[pd.DataFrame]] = {
        "roc": [pd.DataFrame(columns=["curve", "recipe", "group", "fpr", "tpr"])],
        "pr": [pd.DataFrame(columns=["curve", "recipe", "group", "recall", "precision"])],
    }
    for recipe, own in scores.groupby("recipe", sort=False, observed=True):
        for group in OOD_ROLES["test"]:
            id_scores, ood_scores = own.loc[own["set"] == "test", detector], own.loc[own["role"] == group, detector]
            if ood_scores.empty:
                continue
            positive = np.repeat([False, True], [len(id_scores), len(ood_scores)])
            values = np.concatenate([id_scores, ood_scores])
            about = {"curve": f"{recipe} {group}", "recipe": recipe, "group": group}
            fpr, tpr, _ = roc_curve(positive, values)
            precision, recall, _ = precision_recall_curve(positive, values, drop_intermediate=True)
            found["roc"].append(_thinned({"fpr": fpr, "tpr": tpr}).assign(**about))
            found["pr"].append(_thinned({"recall": recall, "precision": precision}).assign(**about))
    return {name: pd.concat(parts[1:] or parts)[parts[0].columns] for name, parts in found.items()}


def _thinned(columns: dict[str, np.ndarray]) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    rows = np.unique(np.linspace(0, count - 1, POINTS).astype(int))
    return pd.DataFrame({name: values[rows] for name, values in columns.items()})
