"""What a classifier is to say of outliers: nothing in particular, or nothing loudly."""

from pydantic import PositiveFloat
from torch import Tensor

from pipeline.settings.params import Section


class Exposure(Section):
    """Uniformity on outliers."""

    weight: PositiveFloat
    temperature: PositiveFloat


class EnergyBound(Section):
    """Energies of ID images below one bound, of outliers above another."""

    weight: PositiveFloat
    margin_in: float
    margin_out: float


def exposure(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean cross-entropy from the uniform distribution to the softmax, H(U, p) = KL(U || p) + ln C.

    Outlier exposure (Hendrycks et al. 2019, section 3): logsumexp(z) - mean(z). It is ln C, its least value,
    where all logits of an outlier are equal.

    Args:
        logits: (n, C), n > 0.
        temperature: divides the logits. At a fixed weight the term of the same angles is 65 times larger with scale 30
            than with AdaCos' 3.1; a temperature near scale / 10 makes them alike.
    """
    scaled = logits / temperature
    return (scaled.logsumexp(dim=1) - scaled.mean(dim=1)).mean()


def energy_bound(logits: Tensor, known: Tensor, margin_in: float, margin_out: float) -> Tensor:
    """Mean squared hinge of the energies, E = -logsumexp(z) (Liu et al. 2020, section 3.2).

    The regulariser of pytorch-ood's `EnergyRegularizedLoss`, by itself, so that it can be recorded by itself.

    Args:
        logits: (n, C).
        known: bool (n,); some are, some are not.
        margin_in: ID energies above it are pressed down, -25 in the paper; tells of the scale of the logits.
        margin_out: energies of outliers below it are pushed up, -7 in the paper.
    """
    energy = -logits.logsumexp(dim=1)
    too_high, too_low = (energy[known] - margin_in).relu(), (margin_out - energy[~known]).relu()
    return too_high.square().mean() + too_low.square().mean()
