"""Section `score`."""

from typing import Annotated, Any

from pydantic import Field, field_validator

from pipeline.settings.section import Section


class ScoreSettings(Section):
    """The detectors of cached outputs (name: arguments, a list is a choice), and the resamples of the intervals."""

    detectors: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    resamples: Annotated[int, Field(ge=0, le=1_000_000)]

    @field_validator("detectors")
    @classmethod
    def _values_to_choose(cls, detectors: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, options in detectors.items():
            if empty := [key for key, value in options.items() if value == []]:
                raise ValueError(f"{name}.{empty[0]} is an empty list, expected values to choose from")
        return detectors
