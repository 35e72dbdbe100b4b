"""The whole of params.yaml: which sections there are, and what has to hold between them.

A stage reads its own section and no more, so that an edit reruns only what it touches. Here all of them are checked at
once, before any work, so that a slip in the last section does not show after hours.
"""

from typing import Any

from pydantic import NonNegativeInt

from pipeline import methods
from pipeline.runtime.errors import UserError, like
from pipeline.settings import params
from pipeline.settings.autoencoder import AutoencoderSettings
from pipeline.settings.diffusion import DiffusionSettings
from pipeline.settings.encode import InferenceSettings
from pipeline.settings.features import FeaturesSettings
from pipeline.settings.infer import InferSettings
from pipeline.settings.methods import Pools
from pipeline.settings.prepare import PrepareSettings
from pipeline.settings.recipes import RecipeName, Recipes
from pipeline.settings.rules import BETWEEN
from pipeline.settings.score import ScoreSettings
from pipeline.settings.shards import ShardsSettings
from pipeline.settings.teacher import TeacherSettings
from pipeline.settings.train import TrainSettings

SECTIONS: dict[str, Any] = {
    "seed": NonNegativeInt,
    "shipped": RecipeName,
    "prepare": PrepareSettings,
    "autoencoder": AutoencoderSettings,
    "encode": InferenceSettings,
    "teacher": TeacherSettings,
    "methods": Pools,
    "diffusion": DiffusionSettings,
    "sample": methods.schema(),
    "shards": ShardsSettings,
    "features": FeaturesSettings,
    "train": TrainSettings,
    "recipes": Recipes,
    "infer": InferSettings,
    "score": ScoreSettings,
}


def check_params() -> None:
    """Check params.yaml as a whole.

    Raises:
        UserError: names every problem with its line: unknown sections and keys (and the nearest that is known), wrong
            types, values out of range, and what does not go together.
    """
    content, lines = params.load()
    found = [
        f"{params.at(lines, (name,))}: unknown section{like(str(name), list(SECTIONS))}"
        for name in content
        if name not in SECTIONS
    ]
    found += [f"{params.PARAMS}: {name}: is missing; add it" for name in SECTIONS if name not in content]
    own: dict[str, Any] = {}
    for name in (name for name in SECTIONS if name in content):
        value, wrong = params.checked((name,), content[name], SECTIONS[name], lines)
        found += wrong
        if not wrong:
            own[name] = value
    for rule, needed in BETWEEN.items():
        if set(needed) <= set(own):
            found += [f"{params.at(lines, place)}: {said}" for place, said in rule(own)]
    if found:
        count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
        raise UserError("\n  ".join([f"{params.PARAMS}: {count}", *found]) if len(found) > 1 else found[0])
