"""What tells known from unknown, beside a classifier's weights: detector.json and detector.safetensors.

detector.json names the score and the default rate of false alarms; detector.safetensors has `id_scores`, the scores of
the ID validation images in ascending order, from which an image's p-value follows.
"""

from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.runtime.errors import UserError, first_problem, one_line
from pipeline.runtime.files import read_json, write_json

FILES = ("detector.json", "detector.safetensors")


class Settings(BaseModel):
    """The content of detector.json.

    Attributes:
        score: a key of `classifier.scores.SCORES`; larger for OOD.
        false_alarms: an image is unknown where its p-value is at most this: about that share of ID images, 0..1.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    score: Literal["msp", "max-cosine"]
    false_alarms: float = Field(gt=0, lt=1)


class Detector(NamedTuple):
    """A score, and what its values are on ID validation images.

    Attributes:
        settings: of detector.json.
        id_scores: float64 (n,), n > 0, ascending and finite.
    """

    settings: Settings
    id_scores: Tensor


def write(folder: Path, detector: Detector) -> None:
    """Write a model folder's two files."""
    write_json(folder / FILES[0], detector.settings.model_dump())
    save_file({"id_scores": detector.id_scores.contiguous()}, folder / FILES[1])


def read(about: Path, scores: Path) -> Detector:
    """Read the two files.

    Raises:
        UserError: one is missing or of another form.
    """
    try:
        settings = Settings.model_validate(read_json(about))
    except ValidationError as error:
        raise UserError(f"{about}: {first_problem(error)}; train the model again, or get a newer one") from None
    if not scores.is_file():
        raise UserError(f"{scores}: not found; train the model again, or get a newer one")
    try:
        id_scores = load_file(scores)["id_scores"]
    except (OSError, SafetensorError, KeyError) as error:
        raise UserError(f"{scores}: no tensor id_scores ({one_line(error)}); train the model again") from None
    ascending = id_scores.ndim == 1 and len(id_scores) > 0 and bool((id_scores[1:] >= id_scores[:-1]).all())
    if not ascending or not bool(id_scores.isfinite().all()):
        raise UserError(f"{scores}: id_scores are not finite numbers in ascending order; train the model again")
    return Detector(settings, id_scores.double())
