"""The score that a trained classifier ships with."""

import torch

from pipeline.artifacts.detector import Detector
from pipeline.artifacts.outputs import Outputs
from pipeline.classifier.networks import Classifier, head_of
from pipeline.evaluation import deployed
from pipeline.recipes.inputs import TrainingInputs

FALSE_ALARMS = 0.05  # share of ID images that a classifier calls unknown where nothing else is asked for


def detector(model: Classifier, common: TrainingInputs) -> tuple[Detector, Outputs]:
    """The score that a classifier ships with, and its outputs on ID validation images."""
    data, val = common.data, common.data.outputs(model, common.data.val)
    score = common.settings.score or {"msp" if isinstance(model.head, torch.nn.Linear) else "max-cosine": {}}
    known = data.outputs(model, data.train) if deployed.needs_training_outputs(score) else None
    return deployed.fit_score(score, FALSE_ALARMS, known, val, head_of(model)), val
