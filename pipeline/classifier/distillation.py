"""Distillation losses: from the teacher's logits, and from its features."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.classifier.terms import Context, Step
from pipeline.runtime.errors import UserError
from pipeline.settings.recipes import FeatureDistillation, LogitDistillation


def logit_distillation(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of softened softmaxes times temperature squared (Hinton et al. 2015, section 2).

    Zero exactly where student and teacher agree. Both (n, C).
    """
    student = functional.log_softmax(logits / temperature, dim=1)
    teacher = functional.log_softmax(teacher_logits / temperature, dim=1)
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


class LogitDistillationTerm:
    """`logit_distillation` of the ID images of a step."""

    def __init__(self, settings: LogitDistillation, context: Context):
        self.weight, self.temperature = settings.weight, settings.temperature

    def __call__(self, step: Step) -> Tensor:
        return logit_distillation(step.logits[step.is_id], step.taught[0], self.temperature)


class FeatureDistillationTerm(nn.Module):
    """The projected student features against the teacher's, by one of three losses.

    `mse`: the squared error over the teacher's mean square, FitNets' hint (Romero et al. 2015, section 2.2) with a
    linear projector. `residual`: the same of what the teacher's classes do not look at, the part of its features that
    is orthogonal to the weights of its last layer (after arXiv 2603.11269). `kl`: KL(teacher || student) of the
    features' softmaxes, as in OAL's released code.

    The student is projected and the teacher's features stay as they are: where those move too, as in that code, both
    can meet at a constant. Zero exactly where student and teacher agree: the projector starts as the identity.
    """

    classes: Tensor | None

    def __init__(self, settings: FeatureDistillation, context: Context):
        super().__init__()
        self.weight = settings.weight
        self.loss = softmax_divergence if settings.loss == "kl" else relative_error
        weight = context.teacher.head.weight.detach()
        self.projector = nn.Linear(context.width, weight.shape[1], bias=False)
        nn.init.eye_(self.projector.weight)
        self.register_buffer("classes", basis_of(weight) if settings.loss == "residual" else None, persistent=False)

    def forward(self, step: Step) -> Tensor:
        features, wanted = step.features[step.is_id], step.taught[1]
        with torch.autocast(features.device.type, enabled=False):
            found = self.projector(features.float())
            if self.classes is not None:
                found, wanted = (part - part @ self.classes @ self.classes.T for part in (found, wanted))
            return self.loss(found, wanted)


def basis_of(weight: Tensor) -> Tensor:
    """An orthonormal basis, (d, classes), of the span of the rows of a last layer's weight, (classes, d).

    Raises:
        UserError: they span all features, so that nothing is orthogonal to them.
    """
    classes, width = weight.shape
    if classes >= width:
        raise UserError(
            f"feature_distillation.loss: residual of {width} features and {classes} classes is nothing; "
            "take a teacher with more features, or mse"
        )
    return torch.linalg.qr(weight.T.float()).Q


def relative_error(features: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error over the mean square of what is wanted; both (n, d)."""
    return functional.mse_loss(features, wanted) / wanted.square().mean()


def softmax_divergence(features: Tensor, wanted: Tensor) -> Tensor:
    """KL(wanted || features) of softmaxes over the features, mean over images in nats; both (n, d)."""
    return logit_distillation(features, wanted, 1.0)
