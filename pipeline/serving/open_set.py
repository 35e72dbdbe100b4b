"""A classifier with its score and p-values: what tells the known from the unknown."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.artifacts import detector as detectors
from pipeline.artifacts import models
from pipeline.artifacts.detector import Detector
from pipeline.artifacts.revisions import check_revision
from pipeline.classifier.networks import Classifier, head_of
from pipeline.evaluation.deployed import Score
from pipeline.runtime.errors import UserError
from pipeline.runtime.processes import pick_device


class OpenSetClassifier(nn.Module):
    """Images to probabilities, OOD scores, p-values and verdicts, all in one graph.

    Args:
        classifier: a trained one.
        detector: its score, and the values of it on ID validation images.
    """

    def __init__(self, classifier: Classifier, detector: Detector):
        super().__init__()
        self.classifier, self.settings, self.validation = classifier, detector.settings, len(detector.id_scores)
        self.score = Score(detector, head_of(classifier))

    def forward(self, images: Tensor, false_alarms: Tensor) -> tuple[Tensor, ...]:
        """Images, float in 0..1, (n, channels, size, size), and a rate of false alarms, float64 (), to

        probabilities, float32 (n, classes); OOD scores, float64 (n,), larger for OOD; p-values, float64 (n,), see
        `scores.p_values`; unknown, bool (n,); and the p-values of the parts of the score, float64 (n, parts). All but
        the probabilities are computed on the CPU.
        """
        logits, features = self.classifier(images)
        return self.decide(logits, features, false_alarms)

    def decide(self, logits: Tensor, features: Tensor, false_alarms: Tensor) -> tuple[Tensor, ...]:
        """As `forward`, of what the classifier says."""
        scores, p, parts = self.score(logits.cpu(), features.cpu())
        return logits.softmax(dim=1), scores, p, p <= false_alarms.to(p.device), parts


def load(source: str, revision: str | None) -> OpenSetClassifier:
    """A trained model with its detector, from a folder or from the Hugging Face Hub, in eval mode on the device.

    Raises:
        UserError: a Hub id without its commit, a file that is missing or damaged.
    """
    if not Path(source).is_dir() and revision is None:
        raise UserError(f"{source}: no such folder; run `dvc repro`, or name a model of the Hub with its --revision")
    check_revision(source, revision)
    classifier = models.load(Classifier, source, revision=revision)
    detector = detectors.read(*(models.file(source, revision, name) for name in detectors.FILES))
    return OpenSetClassifier(classifier, detector).to(pick_device()).eval()


@torch.no_grad()
def judge(
    model: OpenSetClassifier, images: Tensor, false_alarms: float, nearest: Callable[[Tensor], list[Any]] | None = None
) -> list[dict[str, Any]]:
    """class, confidence (0..1), score, p_value, verdict (`known`, `unknown`), parts and reason of each image.

    `parts` are the p-values of the score's parts by name. `reason` is of unknown images: what the part with the
    smallest p-value says.

    Args:
        images: float in 0..1, (n, channels, size, size).
        false_alarms: share of known images that may be called unknown, 0..1.
        nearest: what is said under `nearest`, of features (n, d) on the CPU.
    """
    rate = torch.tensor(false_alarms, dtype=torch.float64, device=images.device)
    logits, features = model.classifier(images)
    probabilities, scores, p, unknown, parts = (part.cpu() for part in model.decide(logits, features, rate))
    beside = [{"nearest": own} for own in nearest(features.float().cpu())] if nearest else [{} for _ in images]
    confidence, best = probabilities.max(dim=1)
    columns = zip(best.tolist(), confidence.tolist(), scores.tolist(), p.tolist(), unknown.tolist(), strict=True)
    return [
        {
            "class": model.classifier.classes[label],
            "confidence": sure,
            "score": score,
            "p_value": p_value,
            "verdict": "unknown" if is_unknown else "known",
            "parts": dict(zip(model.score.parts, own, strict=True)),
            "reason": model.score.reason(own) if is_unknown else None,
        }
        | more
        for (label, sure, score, p_value, is_unknown), own, more in zip(columns, parts.tolist(), beside, strict=True)
    ]
