"""How outliers are drawn around ID vectors: what methods `boundary` and `embedding` have in common."""

from typing import Annotated, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.settings.section import Section


class NeighbourhoodSettings(Section):
    """How outliers are drawn around ID vectors.

    The papers' code: `neighbours` 300, `anchors` 50, `perturbations` 1500, `kept_per_anchor` 2, `unit_sphere` true and
    a noise of 0.07 in 768 dimensions, which is a `sigma` of about 1.9.
    """

    neighbours: PositiveInt
    anchors: PositiveInt
    perturbations: PositiveInt
    kept_per_anchor: PositiveInt
    sigmas: Annotated[list[PositiveFloat], Field(min_length=1)]
    unit_sphere: bool

    @model_validator(mode="after")
    def _kept_are_of_perturbations(self) -> Self:
        if self.kept_per_anchor > self.perturbations:
            raise ValueError(
                f"kept_per_anchor is {self.kept_per_anchor}, expected at most perturbations = {self.perturbations}"
            )
        return self
