"""OOD metrics by OpenOOD's definitions (openood/evaluators/metrics.py). OOD is the positive class.

A score is larger for OOD. All values are in percent.
"""

import numpy as np
from sklearn.metrics import auc, precision_recall_curve, roc_curve

METRICS = ("auroc", "fpr95", "fpr95_id_positive", "aupr_in", "aupr_out")
RECALL = 0.95


def ood_metrics(id_scores: np.ndarray, ood_scores: np.ndarray) -> dict[str, float]:
    """All metrics of one ID set against one OOD set.

    Args:
        id_scores: float (n,), n > 0, finite.
        ood_scores: float (m,), m > 0, finite.

    Returns:
        `auroc`; `fpr95`, the share of ID flagged at the first threshold that catches 95 % of OOD (OpenOOD);
        `fpr95_id_positive`, the share of OOD let pass where the share of ID let pass is nearest to 95 % (the
        VOS and Dream-OOD family: not comparable with the other); `aupr_in` and `aupr_out`, areas by the
        trapezoid rule with ID and OOD as the positive class.
    """
    scores = np.concatenate([id_scores, ood_scores])
    is_ood = np.concatenate([np.zeros(len(id_scores), bool), np.ones(len(ood_scores), bool)])
    fpr, tpr, _ = roc_curve(is_ood, scores)
    values = {
        "auroc": auc(fpr, tpr),
        "fpr95": fpr[np.argmax(tpr >= RECALL)],
        "fpr95_id_positive": _fpr_nearest(~is_ood, -scores),
        "aupr_in": _aupr(~is_ood, -scores),
        "aupr_out": _aupr(is_ood, scores),
    }
    return {name: 100 * float(value) for name, value in values.items()}


def _aupr(positive: np.ndarray, scores: np.ndarray) -> float:
    precision, recall, _ = precision_recall_curve(positive, scores)
    return auc(recall, precision)


def _fpr_nearest(positive: np.ndarray, scores: np.ndarray) -> float:
    """False positive rate where the recall is nearest to 95 %, as Hendrycks' `fpr_and_fdr_at_recall` picks it.

    Of several thresholds with that recall it takes the lowest, and so the largest rate.
    """
    fpr, tpr, _ = roc_curve(positive, scores, drop_intermediate=False)
    complete = int(np.argmax(tpr == 1))
    recall, rates = tpr[: complete + 1][::-1], fpr[: complete + 1][::-1]
    return float(rates[np.argmin(np.abs(recall - RECALL))])


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Percent of the rows of (n, classes) whose largest logit is the label's."""
    return 100 * float((logits.argmax(axis=1) == labels).mean())
