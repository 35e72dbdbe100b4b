"""Outlier-exposure and energy losses: terms on the outlier images of a batch."""

from torch import Tensor

from pipeline.classifier.terms import Context, Step
from pipeline.settings.recipes import EnergyRegularization, OutlierExposure


def _mean(values: Tensor) -> Tensor:
    """The mean, or 0 of nothing: a batch of one class alone has no virtual outlier."""
    return values.mean() if len(values) else values.sum()


def outlier_exposure(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean cross-entropy from the uniform distribution to the softmax, H(U, p) = KL(U || p) + ln C.

    Outlier exposure (Hendrycks et al. 2019, section 3): logsumexp(z) - mean(z). It is ln C, its least value,
    where all logits of an outlier are equal.

    Args:
        logits: (n, C); 0 is returned for none.
        temperature: divides the logits. At a fixed weight the term of the same angles is 65 times larger with scale 30
            than with AdaCos' 3.1; a temperature near scale / 10 makes them alike.
    """
    scaled = logits / temperature
    return _mean(scaled.logsumexp(dim=1) - scaled.mean(dim=1))


def energy_regularization(logits: Tensor, is_id: Tensor, margin_in: float, margin_out: float) -> Tensor:
    """Mean squared hinge of the energies, E = -logsumexp(z) (Liu et al. 2020, section 3.2).

    The regulariser of pytorch-ood's `EnergyRegularizedLoss`, by itself, so that it can be recorded by itself.

    Args:
        logits: (n, C).
        is_id: bool (n,).
        margin_in: ID energies above it are pressed down, -25 in the paper; tells of the scale of the logits.
        margin_out: energies of outliers below it are pushed up, -7 in the paper.
    """
    energy = -logits.logsumexp(dim=1)
    too_high, too_low = (energy[is_id] - margin_in).relu(), (margin_out - energy[~is_id]).relu()
    return _mean(too_high.square()) + _mean(too_low.square())


class OutlierExposureTerm:
    """`outlier_exposure` of the outliers of a step."""

    def __init__(self, settings: OutlierExposure, context: Context):
        self.weight, self.temperature = settings.weight, settings.temperature

    def __call__(self, step: Step) -> Tensor:
        return outlier_exposure(step.logits[~step.is_id], self.temperature)


class EnergyRegularizationTerm:
    """`energy_regularization` of a step."""

    def __init__(self, settings: EnergyRegularization, context: Context):
        self.weight, self.margins = settings.weight, (settings.margin_in, settings.margin_out)

    def __call__(self, step: Step) -> Tensor:
        return energy_regularization(step.logits, step.is_id, *self.margins)
