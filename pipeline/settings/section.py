"""What the sections of params.yaml are made of: the base of each, and the types that several of them use."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A section of params.yaml: unknown keys and wrong types are errors, nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def at_home(path: str) -> str:
    """A path with `~` and `~NAME` replaced by home folders, as a shell would."""
    try:
        return str(Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError:
        raise ValueError("no such user's home folder") from None


LocalPath = Annotated[str, AfterValidator(at_home)]  # of a file or folder, or what is no path, such as an id of the Hub
Width = Annotated[int, Field(gt=0, multiple_of=8)]  # of a level of a network of diffusers, whose norms have 8 groups
Share = Annotated[float, Field(ge=0, le=1)]
Quantile = Annotated[float, Field(gt=0, lt=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]  # of a moving average of weights; 0 for none
Precision = Literal["auto", "float32", "bfloat16"]  # see `training.precision.resolve`
