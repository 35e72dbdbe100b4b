"""What tells known from unknown, beside a classifier's weights: detector.json and detector.safetensors.

detector.json names the score, a detector of `score` or a sum of several, with their arguments, and the default rate of
false alarms. detector.safetensors has

- `id_scores`, float64 (m,): the scores of the ID validation images, ascending, from which an image's p-value follows;
- of a sum, `PART.id_scores` of each part, likewise: a part counts in units of their standard deviation;
- `PART.NAME`: what the part was fitted to, see `evaluation/deployed.py`.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.runtime.errors import UserError, first_problem, one_line
from pipeline.runtime.files import read_json, write_json

FILES = ("detector.json", "detector.safetensors")
ID_SCORES = "id_scores"


class Settings(BaseModel):
    """The content of detector.json.

    Attributes:
        score: the parts that are added up, and the arguments of each; larger for OOD.
        false_alarms: an image is unknown where its p-value is at most this: about that share of ID images, 0..1.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    score: dict[str, dict[str, Any]] = Field(min_length=1)
    false_alarms: float = Field(gt=0, lt=1)

    @property
    def name(self) -> str:
        """The score in one word: `msp+rmd++`."""
        return "+".join(self.score)


class Detector(NamedTuple):
    """A score, what its values are on ID validation images, and what it was fitted to.

    Attributes:
        settings: of detector.json.
        id_scores: float64 (m,), m > 0, ascending and finite.
        state: of each part, by name: what it was fitted to, and, of a sum, its `id_scores`, likewise.
    """

    settings: Settings
    id_scores: Tensor
    state: Mapping[str, dict[str, Tensor]] = MappingProxyType({})


def write(folder: Path, detector: Detector) -> None:
    """Write a model folder's two files."""
    write_json(folder / FILES[0], detector.settings.model_dump())
    own = {f"{part}.{name}": value for part, state in detector.state.items() for name, value in state.items()}
    tensors = {ID_SCORES: detector.id_scores} | own
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / FILES[1])


def read(about: Path, tensors: Path) -> Detector:
    """Read the two files.

    Raises:
        UserError: one is missing or of another form.
    """
    try:
        settings = Settings.model_validate(read_json(about))
    except ValidationError as error:
        raise UserError(f"{about}: {first_problem(error)}; train the model again, or get a newer one") from None
    if not tensors.is_file():
        raise UserError(f"{tensors}: not found; train the model again, or get a newer one")
    try:
        found = load_file(tensors)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{tensors}: not readable ({one_line(error)}); train the model again") from None
    state: dict[str, dict[str, Tensor]] = {part: {} for part in settings.score}
    for name, value in found.items():
        part, _, own = name.rpartition(".")
        if part in state:
            state[part][own] = value
    total = _ascending(found.get(ID_SCORES), ID_SCORES, tensors)
    for part, own_state in state.items() if len(state) > 1 else ():
        own_state[ID_SCORES] = _ascending(own_state.get(ID_SCORES), f"{part}.{ID_SCORES}", tensors)
    return Detector(settings, total, state)


def _ascending(scores: Tensor | None, name: str, path: Path) -> Tensor:
    if scores is None:
        raise UserError(f"{path}: no tensor {name}; train the model again, or get a newer one")
    ascending = scores.ndim == 1 and len(scores) > 0 and bool((scores[1:] >= scores[:-1]).all())
    if not ascending or not bool(scores.isfinite().all()):
        raise UserError(f"{path}: {name} are not finite numbers in ascending order; train the model again")
    return scores.double()
