"""Section `train`: the same for every recipe."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from pipeline.settings.section import LocalPath
from pipeline.settings.training import TrainingSettings


class TrainSettings(TrainingSettings):
    """What classifiers start from, the seeds, and the datasets of auxiliary images."""

    init_from: Literal["scratch", "pretrained"]
    outliers: LocalPath
    controls: LocalPath
    auxiliary_count: PositiveInt
    auxiliary_batch: PositiveInt
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)]
