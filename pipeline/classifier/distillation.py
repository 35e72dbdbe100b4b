"""Learning from a teacher: from what it says, and from what it sees."""

from typing import Annotated

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional

from pipeline.settings.params import Section

Weight = Annotated[float, Field(ge=0)]


class Distillation(Section):
    """Weights of the two terms, on ID images; the temperature is of the logits."""

    logits: Weight
    features: Weight
    temperature: PositiveFloat


def soft_targets(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of softened softmaxes times temperature squared (Hinton et al. 2015, section 2).

    Zero exactly where student and teacher agree. Both (n, C).
    """
    student = functional.log_softmax(logits / temperature, dim=1)
    teacher = functional.log_softmax(teacher_logits / temperature, dim=1)
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


class FeatureHints(nn.Module):
    """Squared error from projected student features to the teacher's, over the teacher's mean square.

    FitNets' hint (Romero et al. 2015, section 2.2) with a linear projector. The student is projected and the teacher's
    features stay as they are: where those move too, as in OAL's released code, both can meet at a constant. Zero
    exactly where student and teacher agree: the projector starts as the identity.

    Args:
        width: of the student's features.
        teacher_width: of the teacher's features.
    """

    def __init__(self, width: int, teacher_width: int):
        super().__init__()
        self.projector = nn.Linear(width, teacher_width, bias=False)
        nn.init.eye_(self.projector.weight)

    def forward(self, features: Tensor, teacher_features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            error = functional.mse_loss(self.projector(features.float()), teacher_features)
        return error / teacher_features.square().mean()
