"""What a classifier is trained for: the terms of a recipe, put together."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.classifier.distillation import Distillation, FeatureHints, soft_targets
from pipeline.classifier.exposure import EnergyBound, Exposure, energy_bound, exposure
from pipeline.classifier.heads import Linear, Settings
from pipeline.classifier.micl import Bank, Information, InformationTerm
from pipeline.classifier.networks import Classifier
from pipeline.settings.params import Section
from pipeline.training.loaders import Batch


class Terms(Section):
    """The terms beside the cross-entropy. One that is left out of params.yaml is not there: nothing else is implied."""

    head: Settings = Linear(kind="linear")
    exposure: Exposure | None = None
    energy: EnergyBound | None = None
    distillation: Distillation | None = None
    information: Information | None = None

    @property
    def needs_outliers(self) -> bool:
        """Some term is of outlier images in the batch."""
        return self.exposure is not None or self.energy is not None


class Objective(nn.Module):
    """The loss terms of a recipe on a batch, for `loop.fit`: weighted, by name.

    ID and outliers go through the network in one concatenated forward pass, so that batch normalisation
    sees both (OpenOOD issue 138: separate passes made exposure look worse than no outliers).

    Args:
        terms: the recipe's; what they weigh nothing is not computed.
        student: the classifier that will be trained.
        teacher: to distil from, on the student's device; needed for that term alone.
        bank: outliers to pair ID features with; needed for the information term alone.
    """

    def __init__(self, terms: Terms, student: Classifier, teacher: Classifier | None = None, bank: Bank | None = None):
        super().__init__()
        self.terms = terms
        self.others = student, teacher  # in a tuple: their weights are not this module's
        width = student.head.weight.shape[1]
        self.hints: FeatureHints | None = None
        if terms.distillation and terms.distillation.features and teacher is not None:
            self.hints = FeatureHints(width, teacher.head.weight.shape[1])
        self.information = InformationTerm(terms.information, bank, width) if terms.information and bank else None

    @property
    def stateful(self) -> dict[str, Any]:
        """What a checkpoint has to keep besides the student."""
        return {"objective": self} | ({"information": self.information} if self.information else {})

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        logits, features = model(batch.images)
        logits, known = logits.float(), batch.labels >= 0
        labels = batch.labels[known]
        with_margin = self.others[0].head.with_margin(logits[known], features[known], labels)
        found = {"cross_entropy": functional.cross_entropy(with_margin, labels)}
        found["accuracy"] = (logits[known].argmax(dim=1) == labels).float().mean()
        if (uniform := self.terms.exposure) is not None:
            found["exposure"] = uniform.weight * exposure(logits[~known], uniform.temperature)
        if (bound := self.terms.energy) is not None:
            found["energy"] = bound.weight * energy_bound(logits, known, bound.margin_in, bound.margin_out)
        if self.terms.distillation is not None:
            found |= self._distilled(self.terms.distillation, batch.images[known], logits[known], features[known])
        if self.information is not None:
            weight = self.information.settings.weight
            found["information"] = weight * self.information(features[known], labels)
        return found

    def _distilled(self, settings: Distillation, images: Tensor, logits: Tensor, features: Tensor) -> dict[str, Tensor]:
        teacher = self.others[1]
        assert teacher is not None
        with torch.no_grad():
            wanted, seen = teacher(images)
        found = {}
        if settings.logits:
            found["soft_targets"] = settings.logits * soft_targets(logits, wanted.float(), settings.temperature)
        if self.hints is not None:
            found["hints"] = settings.features * self.hints(features, seen.float())
        return found
