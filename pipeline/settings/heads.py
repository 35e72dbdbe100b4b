"""The last layer of a classifier, by name: key `head` of a recipe."""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, TypeAdapter, ValidationError

from pipeline.runtime.errors import UserError
from pipeline.settings.section import Section


class LinearSettings(Section):
    """A plain linear layer."""

    kind: Literal["linear"]


class NormalisedSettings(Section):
    """A linear layer on features that are brought to one size: `z-score` to mean 0 and a deviation over their values
    (ASCOOD, arXiv 2411.10794), `l2` to a length (T2FNorm and others)."""

    kind: Literal["z-score", "l2"]
    scale: PositiveFloat


class MarginSettings(Section):
    """CosFace s (cos t - m), ArcFace s cos(t + m), SphereFace s cos(m t); m in radians for ArcFace, a factor
    for SphereFace. Features and weights are normalised in all three."""

    kind: Literal["cosface", "arcface", "sphereface"]
    scale: PositiveFloat
    margin: Annotated[float, Field(ge=0)]


class ASoftmaxSettings(Section):
    """SphereFace as first published: an integer factor, the feature's length as the scale, annealed."""

    kind: Literal["a-softmax"]
    margin: PositiveInt


class AdaCosSettings(Section):
    """Scaled cosines whose scale is found in training."""

    kind: Literal["adacos"]


HeadSettings = Annotated[
    LinearSettings | NormalisedSettings | MarginSettings | ASoftmaxSettings | AdaCosSettings,
    Field(discriminator="kind"),
]
_ADAPTER: TypeAdapter[HeadSettings] = TypeAdapter(HeadSettings)


def parse(content: Any) -> HeadSettings:
    """Check a head as config.json has it.

    Raises:
        UserError: an unknown kind, or values that do not fit it.
    """
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        raise UserError(f"head {content!r}: {error.errors()[0]['msg']}") from None
