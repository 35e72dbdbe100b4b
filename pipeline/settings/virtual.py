"""Outliers that are made anew from the ID items of every batch: key `virtual_outliers` of a recipe."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from pipeline.settings.section import Quantile, Section

Pair = Field(min_length=2, max_length=2)


def _ascending(bounds: list[float]) -> list[float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{bounds}, expected [low, high] with low <= high")
    return bounds


class MixtureSettings(Section):
    """Two ID items of different classes, one over the other.

    Attributes:
        ratio: bounds of the first one's share, which is uniform between them.
    """

    kind: Literal["mixture"]
    ratio: Annotated[list[Quantile], Pair, AfterValidator(_ascending)]


class PermutedSettings(Section):
    """Features each of whose values is another image's: every value is ID by itself, all together are not."""

    kind: Literal["permuted"]


class AttributionSettings(Section):
    """Images that are moved along the gradient of their class's logit, by the network that is being trained (ASCOOD).

    Attributes:
        share: of the values, those with the largest absolute gradient.
        step: root mean square of the moved values' steps, in standard deviations of ID pixels, at the first step of
            the training and at its last; linear in between.
        sign: `plus` towards more of the class, `minus` towards less.
    """

    kind: Literal["attribution"]
    share: Annotated[float, Field(gt=0, le=1)]
    step: Annotated[list[PositiveFloat], Pair]
    sign: Literal["plus", "minus"]


class HamiltonianSettings(Section):
    """Features drawn between two neighbouring classes by Hamiltonian Monte Carlo on the sphere (HamOS).

    Attributes:
        neighbours: k of the k-NN distance to either class in the batch.
        classes: the nearest other classes, of which one is drawn.
        rounds: of `leaps` leapfrog steps each, after which the way is taken or refused.
        step_size: of a leapfrog step, in radians at unit speed.
    """

    kind: Literal["hamiltonian"]
    neighbours: PositiveInt
    classes: PositiveInt
    rounds: PositiveInt
    leaps: PositiveInt
    step_size: PositiveFloat


class AroundSettings(Section):
    """Features near those of the batch's other outliers: few real ones, multiplied.

    Attributes:
        sigma: of the Gaussian noise on them, in standard deviations of ID features.
    """

    kind: Literal["around"]
    sigma: PositiveFloat


VirtualSettings = Annotated[
    MixtureSettings | PermutedSettings | AttributionSettings | HamiltonianSettings | AroundSettings,
    Field(discriminator="kind"),
]
