"""Scores of one model: every detector fitted, its arguments chosen on validation sets, every image scored.

Outputs are read piece by piece: memory grows with the training set and the scores, not with logits and features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline.artifacts.outputs import Head, OutputFile, Outputs
from pipeline.artifacts.roles import OOD_ROLES
from pipeline.evaluation.deployed import added_up
from pipeline.evaluation.detectors import Scorer, fit
from pipeline.evaluation.grid import NO_CHOICE, combinations, detector_of, label, parts_of
from pipeline.evaluation.metrics import accuracy_percent, auroc
from pipeline.runtime.errors import UserError

Options = Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Scored:
    """What is known of a model.

    Attributes:
        scores: one row per image: set, role, key, and one column per detector, float64.
        accuracy: percent of right answers by ID split.
        chosen: of each detector the arguments that were used, as in `knn(k=10)`.
    """

    scores: pd.DataFrame
    accuracy: dict[str, float]
    chosen: dict[str, str]


def _candidates(files: Mapping[str, OutputFile], head: Head | None, detectors: Options) -> dict[str, Scorer]:
    """Every detector with every combination of its arguments, fitted; then those that were run with the model.

    Raises:
        UserError: as `fit`; scores that came with the outputs are not in every set, or go by a detector's name.
    """
    given = files["test"].score_names
    for file in files.values():
        if file.name != "train" and (missing := set(given) - set(file.score_names)):
            raise UserError(f"{file.path}: no column {min(missing)!r}, which test.parquet has; write it for every set")
        if file.name != "train" and (extra := set(file.score_names) - set(given)):
            raise UserError(f"{file.path}: a column {min(extra)!r}, which test.parquet has not; write it for every set")
    if twice := {detector_of(name) for name in given} & set(detectors):
        raise UserError(f"score.detectors: {min(twice)} is a column of the outputs too; drop it, or rename the column")
    loaded = {split: files[split].load() for split in ("train", "val") if split in files}
    for split, own in loaded.items():
        _check_classes(files[split], own, _classes(files))
    found = {
        label(name, options): fit(name, options, loaded.get("train"), loaded.get("val"), head)
        for name, choices in detectors.items()
        for options in combinations(choices)
    }
    return found | {name: lambda outputs, name=name: outputs.scores[name] for name in given}


def _classes(files: Mapping[str, OutputFile]) -> int:
    """The classes of a model, by its outputs on the test images."""
    return next(files["test"].batches()).logits.shape[1]


def _check_classes(file: OutputFile, outputs: Outputs, expected: int) -> None:
    if (found := outputs.logits.shape[1]) != expected:
        problem = f"logits of {found} classes, expected {expected} as in test.parquet"
        raise UserError(f"{file.path}: {problem}; write the outputs of one model")


def _scores(file: OutputFile, scorers: Mapping[str, Scorer], classes: int) -> pd.DataFrame:
    """Scores of one set, read piece by piece: key, and one column per scorer."""
    return pd.concat([_piece(file, outputs, scorers, classes) for outputs in file.batches()], ignore_index=True)


def _piece(file: OutputFile, outputs: Outputs, scorers: Mapping[str, Scorer], classes: int) -> pd.DataFrame:
    _check_classes(file, outputs, classes)
    columns: dict[str, Any] = {"set": file.name, "role": file.role, "key": outputs.keys}
    for name, scorer in scorers.items():
        columns[name] = scorer(outputs)
        if not np.isfinite(columns[name]).all():
            raise UserError(f"{file.path}: {name}: not finite; drop it from score.detectors, or from the outputs")
    return pd.DataFrame(columns)


def choose(candidates: Mapping[str, Scorer], files: Mapping[str, OutputFile], pooled: bool = False) -> dict[str, str]:
    """Of each detector the arguments with the best mean AUROC over the validation groups.

    Args:
        candidates: scorers by detector and arguments.
        files: of the model, by set.
        pooled: the best AUROC over all OOD validation images in one set, as OpenOOD's search has it.

    Raises:
        UserError: there are several, and no OOD validation set to choose by.
    """
    names = list(dict.fromkeys(map(detector_of, candidates)))
    of = {name: [key for key in candidates if detector_of(key) == name] for name in names}
    several = {key: candidates[key] for keys in of.values() if len(keys) > 1 for key in keys}
    if not several:
        return {name: keys[0] for name, keys in of.items()}
    groups = [[file for file in files.values() if file.role == role] for role in OOD_ROLES["val"]]
    if "val" not in files or not any(groups):
        raise UserError(f"score.detectors.{detector_of(next(iter(several)))}: {NO_CHOICE}")
    classes = _classes(files)
    id_scores = _scores(files["val"], several, classes)
    sets = [[_scores(file, several, classes) for file in group] for group in groups if group]
    if pooled:
        sets = [[pd.concat([scores for group in sets for scores in group])]]
    areas = [pd.DataFrame([_areas(id_scores, scores, list(several)) for scores in group]).mean() for group in sets]
    means = pd.concat(areas, axis=1).mean(axis=1)
    return {name: str(means[keys].idxmax()) if len(keys) > 1 else keys[0] for name, keys in of.items()}


def _areas(id_scores: pd.DataFrame, ood_scores: pd.DataFrame, names: list[str]) -> dict[str, float]:
    return {name: auroc(id_scores[name].to_numpy(), ood_scores[name].to_numpy()) for name in names}


def score_model(files: Mapping[str, OutputFile], head: Head | None, detectors: Options, pooled: bool = False) -> Scored:
    """Score every set of a model but the training set.

    Args:
        files: of the model, by set, with at least `test`.
        head: its last layer, where detectors need it.
        detectors: name -> arguments; a list of values is a choice to be made on validation sets.
        pooled: see `choose`.

    Raises:
        UserError: files of different numbers of classes, what a detector needs is not there, or scores are not finite,
            or all the same on ID images.
    """
    sums = {name: parts for name in detectors if (parts := parts_of(name, detectors))}
    candidates = _candidates(files, head, {name: own for name, own in detectors.items() if name not in sums})
    chosen = choose(candidates, files, pooled)
    scorers = {name: candidates[chosen[name]] for name in chosen}
    classes = _classes(files)
    scored = {name: _scores(file, scorers, classes) for name, file in files.items() if name != "train"}
    for name, parts in sums.items():
        _add_up(scored, name, parts)
        chosen[name] = label(name, {})
    names = list(chosen)
    for split in ("val", "test"):
        for name in names if split in scored else ():
            if scored[split][name].nunique() == 1:  # outliers may well all look the same to a classifier, ID images not
                raise UserError(f"{files[split].path}: {name}: all scores the same; drop it from score.detectors")
    splits = [split for split in ("train", "val", "test") if split in files]
    accuracies = {split: _accuracy(files[split]) for split in splits}
    return Scored(pd.concat(scored.values(), ignore_index=True), accuracies, chosen)


def _add_up(scored: dict[str, pd.DataFrame], name: str, parts: list[str]) -> None:
    """Add the column of a sum to the scores of every set, as `deployed.added_up` has it."""
    if "val" not in scored:
        raise UserError(f"score.detectors: {name} needs val.parquet, which the outputs lack; add it, or drop {name}")
    references = [torch.from_numpy(np.sort(scored["val"][part].to_numpy())) for part in parts]
    for own in scored.values():
        columns = [torch.tensor(own[part].to_numpy()) for part in parts]
        own[name] = added_up(columns, references).numpy()


def _accuracy(file: OutputFile) -> float:
    right = [accuracy_percent(part.logits.numpy(), part.labels.numpy()) * len(part) for part in file.batches()]
    return sum(right) / len(file)
