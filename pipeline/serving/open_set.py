"""A classifier with its score and threshold: what tells the known from the unknown."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.artifacts import detector_json, models
from pipeline.artifacts.detector_json import Detector
from pipeline.artifacts.revisions import check_revision
from pipeline.classifier.networks import Classifier
from pipeline.classifier.scores import SCORES
from pipeline.runtime.errors import UserError
from pipeline.runtime.processes import pick_device


class OpenSetClassifier(nn.Module):
    """Images to probabilities, OOD scores and verdicts, all in one graph.

    Args:
        classifier: a trained one.
        detector: its score and the threshold above which an image is unknown.
    """

    def __init__(self, classifier: Classifier, detector: Detector):
        super().__init__()
        self.classifier, self.detector = classifier, detector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images, float in 0..1, (n, channels, size, size), to

        probabilities, float32 (n, classes); OOD scores, float64 (n,), larger for OOD; and unknown, bool (n,).
        """
        logits, features = self.classifier(images)
        scores = SCORES[self.detector.score](logits, features, self.classifier.head.weight)
        return logits.softmax(dim=1), scores, scores > self.detector.threshold


def load(source: str, revision: str | None) -> OpenSetClassifier:
    """A trained model with its detector, from a folder or from the Hugging Face Hub, in eval mode on the device.

    Raises:
        UserError: a Hub id without its commit, a file that is missing or damaged.
    """
    if not Path(source).is_dir() and revision is None:
        raise UserError(f"{source}: no such folder; run `dvc repro`, or name a model of the Hub with its --revision")
    check_revision(source, revision)
    classifier = models.load(Classifier, source, revision=revision)
    detector = detector_json.read(models.file(source, revision, "detector.json"))
    return OpenSetClassifier(classifier, detector).to(pick_device()).eval()


@torch.no_grad()
def judge(model: OpenSetClassifier, images: Tensor) -> list[dict[str, Any]]:
    """class, confidence (0..1), score and verdict (`known`, `unknown`) of each image, (n, channels, size, size)."""
    probabilities, scores, unknown = (part.cpu() for part in model(images))
    confidence, best = probabilities.max(dim=1)
    columns = zip(best.tolist(), confidence.tolist(), scores.tolist(), unknown.tolist(), strict=True)
    return [
        {
            "class": model.classifier.classes[label],
            "confidence": sure,
            "score": score,
            "verdict": "unknown" if is_unknown else "known",
        }
        for label, sure, score, is_unknown in columns
    ]
