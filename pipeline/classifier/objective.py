"""What a classifier is trained for: cross-entropy on ID images, and the terms of a recipe."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from pipeline.classifier.distillation import FeatureDistillationTerm, LogitDistillationTerm
from pipeline.classifier.exposure import EnergyRegularizationTerm, OutlierExposureTerm
from pipeline.classifier.micl import MiclTerm, PartnerBank
from pipeline.classifier.networks import Classifier
from pipeline.classifier.terms import Context, Step, Term
from pipeline.classifier.virtual import VirtualOutliers
from pipeline.settings.recipes import Terms
from pipeline.training.loaders import Batch

TERMS: dict[str, Any] = {  # key of a recipe -> class, built from its settings and a `Context`
    "outlier_exposure": OutlierExposureTerm,
    "energy_regularization": EnergyRegularizationTerm,
    "logit_distillation": LogitDistillationTerm,
    "feature_distillation": FeatureDistillationTerm,
    "micl": MiclTerm,
}


class Objective(nn.Module):
    """The loss terms of a recipe on a batch, for `loop.fit`: weighted, by name.

    ID and outliers go through the network in one concatenated forward pass, so that batch normalisation
    sees both (OpenOOD issue 138: separate passes made exposure look worse than no outliers).

    Args:
        terms: the recipe's.
        head: of the classifier that will be trained.
        teacher: to distil from, on the student's device; needed for those terms alone.
        bank: outliers to pair ID features with; needed for MICL alone.
        class_weights: of the cross-entropy, float32 (C,); None for equal ones.
        virtual: adds the outliers that the recipe makes while it trains.
    """

    class_weights: Tensor | None

    def __init__(
        self, terms: Terms, head: Any, teacher: Classifier | None = None, bank: PartnerBank | None = None,
        class_weights: Tensor | None = None, virtual: VirtualOutliers | None = None,
    ):  # fmt: skip
        super().__init__()
        self.smoothing, self.virtual = terms.label_smoothing, virtual
        self.register_buffer("class_weights", class_weights, persistent=False)
        # a method and a function, for modules would become this one's
        self.with_margin, self.teach = head.with_margin, (lambda images: teacher(images)) if teacher else None
        context = Context(head.weight.shape[1], teacher, bank)
        named = {name: getattr(terms, name) for name in TERMS}
        self.terms: dict[str, Term] = {
            name: TERMS[name](settings, context) for name, settings in named.items() if settings is not None
        }
        self.learned = nn.ModuleList(term for term in self.terms.values() if isinstance(term, nn.Module))

    @property
    def stateful(self) -> dict[str, Any]:
        """What a checkpoint has to keep besides the student."""
        terms = {name: term for name, term in self.terms.items() if hasattr(term, "state_dict")}
        return {"objective": self} | {name: term for name, term in terms.items() if not isinstance(term, nn.Module)}

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        if self.virtual is not None:
            batch = self.virtual(model, batch)
        logits, features = model(batch.images)
        step = Step(batch, logits, features, self.teach)
        logits = step.logits[step.is_id]
        with_margin = self.with_margin(logits, step.features[step.is_id], step.labels)
        found = {
            "cross_entropy": functional.cross_entropy(
                with_margin, step.labels, self.class_weights, label_smoothing=self.smoothing
            ),
            "accuracy": (logits.argmax(dim=1) == step.labels).float().mean(),
        }
        return found | {name: term.weight * term(step) for name, term in self.terms.items()}
