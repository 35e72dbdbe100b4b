"""detector.json: the score that a trained classifier ships with, and the threshold above which an image is unknown."""

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from pipeline.runtime.errors import UserError, first_problem
from pipeline.runtime.files import read_json, write_json


class Detector(BaseModel):
    """The content of detector.json.

    Attributes:
        score: a key of `classifier.scores.SCORES`; larger for OOD.
        threshold: an image is unknown where its score is above it.
        id_pass_rate: share of the ID validation images below the threshold, 0..1.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    score: Literal["msp", "max-cosine"]
    threshold: float
    id_pass_rate: float = Field(validation_alias=AliasChoices("id_pass_rate", "id_true_positive_rate"))  # its old name


def write(folder: Path, detector: Detector) -> None:
    """Write a model folder's detector.json."""
    write_json(folder / "detector.json", detector.model_dump())


def read(path: Path) -> Detector:
    """Read a detector.json.

    Raises:
        UserError: it is missing or of another form.
    """
    try:
        return Detector.model_validate(read_json(path))
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}; train the model again, or get a newer one") from None
