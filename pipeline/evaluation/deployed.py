"""The score that a classifier ships with: a detector of `score`, or several whose z-scores are added up.

A z-score is in standard deviations of the ID validation images' scores. Two detectors that fail on different unknowns,
one of softmaxes and one of distances, are together better than either.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pipeline.artifacts.detector import ID_SCORES, Detector, Settings
from pipeline.artifacts.outputs import Head, Outputs
from pipeline.classifier.scores import p_values
from pipeline.evaluation.detectors import DETECTORS, FITTED, NEEDS_HEAD, fitted, needs_features, score_of, unshippable
from pipeline.runtime.errors import UserError, one_line

FLAG = "_is_fitted"  # of pytorch-ood's detectors
UNSURE, UNLIKE = "unsure which class", "like nothing it was shown"


class Score:
    """A fitted score: of logits and features, on the CPU.

    Args:
        detector: of a model's folder.
        head: the model's last layer.

    Attributes:
        parts: names of the detectors that are added up.
        meanings: of each part: what an image is that it calls unknown.

    Raises:
        UserError: a part is unknown, or what it was fitted to is missing.
    """

    def __init__(self, detector: Detector, head: Head):
        options, state = detector.settings.score, detector.state
        self.id_scores = detector.id_scores
        self.detectors = {name: _restore(name, options[name], state.get(name, {}), head) for name in options}
        self.references = [state.get(name, {}).get(ID_SCORES, self.id_scores) for name in options]
        self._check(head)
        self.parts = list(self.detectors)
        self.meanings = {name: UNLIKE if needs_features(own) else UNSURE for name, own in self.detectors.items()}

    def _check(self, head: Head) -> None:
        """Score one row: a file from elsewhere may hold tensors of any shape."""
        classes, width = head.weight.shape
        for name, detector in self.detectors.items():
            try:
                shape = score_of(detector, torch.zeros(1, classes), torch.zeros(1, width)).shape
            except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
                raise UserError(
                    f"detector.safetensors: {name}: {one_line(error)[:200]}; train the model again"
                ) from None
            if shape != (1,):
                raise UserError(f"detector.safetensors: {name}: scores of shape {tuple(shape)}, expected one an image")

    def __call__(self, logits: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, float64 (n,), larger for OOD; their p-values (n,); and the p-values of each part, (n, parts)."""
        parts = [score_of(detector, logits, features) for detector in self.detectors.values()]
        total = added_up(parts, self.references)
        p_of_parts = [p_values(part, own) for part, own in zip(parts, self.references, strict=True)]
        return total, p_values(total, self.id_scores), torch.stack(p_of_parts, dim=1)

    def reason(self, p_of_parts: list[float]) -> str:
        """What an unknown image is unknown for, by the part with the smallest p-value."""
        return self.meanings[min(zip(p_of_parts, self.parts, strict=True))[1]]


def added_up(parts: list[Tensor], references: list[Tensor]) -> Tensor:
    """The sum of the z-scores of several detectors, or the scores of a single one, float64 (n,).

    Args:
        parts: scores (n,) by each.
        references: scores of ID validation images, ascending, (m,) by each.
    """
    if len(parts) == 1:
        return parts[0]
    return sum(
        (part - own.mean()) / own.std(correction=0).clamp_min(torch.finfo(own.dtype).tiny)
        for part, own in zip(parts, references, strict=True)
    )  # type: ignore[return-value]


def fit_score(
    score: Mapping[str, dict[str, Any]], false_alarms: float, train: Outputs | None, val: Outputs, head: Head
) -> Detector:
    """Fit each part, and look at its scores of ID validation images.

    Args:
        score: detectors with their arguments.
        false_alarms: the default rate, 0..1.
        train: of the ID training images; None where no part is fitted to features or labels.
        val: of the ID validation images.

    Raises:
        UserError: as `detectors.fitted`, or a part cannot be deployed.
    """
    state = {}
    for name, options in score.items():
        if problem := unshippable(name):
            raise UserError(f"params.yaml: train.score: {problem}")
        detector = fitted(name, options, train, val, head)
        state[name] = _state(detector, name)
        if len(score) > 1:
            state[name][ID_SCORES] = score_of(detector, val.logits, val.features).detach().sort().values
    # each part is in its own order there, so the sum is taken of the images' own
    detector = Detector(Settings(score=dict(score), false_alarms=false_alarms), torch.empty(0), state)
    total = Score(detector, head)(val.logits, val.features)[0]  # type: ignore[arg-type]
    return detector._replace(id_scores=total.detach().sort().values)


def _state(detector: Any, name: str) -> dict[str, Tensor]:
    """What a detector was fitted to, by name; numbers as float64 ()."""
    values = {attribute.lstrip("_"): getattr(detector, attribute) for attribute in FITTED[name]}
    return {
        key: value.detach() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
        for key, value in values.items()
    }


def needs_training_outputs(score: Mapping[str, Any]) -> bool:
    """Some part is fitted to outputs of the ID training images."""
    return any(FITTED.get(name) and name not in ("temperature", "klm", "react") for name in score)


def _restore(name: str, options: dict[str, Any], state: Mapping[str, Tensor], head: Head) -> Any:
    if problem := unshippable(name):
        raise UserError(f"detector.json: score: {problem}")
    try:
        detector = DETECTORS[name](head if name in NEEDS_HEAD else None, **options)
        for attribute in FITTED[name]:
            value = state[attribute.lstrip("_")]
            setattr(detector, attribute, value if value.ndim else value.item())
    except KeyError as error:
        raise UserError(f"detector.safetensors: no tensor {name}.{error.args[0]}; train the model again") from None
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(f"detector.json: score: {name} {options}: {one_line(error)}; train the model again") from None
    if hasattr(detector, FLAG):
        setattr(detector, FLAG, True)
    return detector
