"""Section `train`: the same for every recipe."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from pipeline.settings.section import LocalPath
from pipeline.settings.training import TrainingSettings


class TrainSettings(TrainingSettings):
    """What classifiers start from, the seeds, the datasets of auxiliary images, and the score they ship with.

    Attributes:
        hidden: width of a layer between a frozen network and the last layer; None for none.
        class_weights: `balanced`: every class counts alike in the cross-entropy, however many images it has.
        score: detectors whose z-scores are added up, with their arguments; None for the one that suits the head.
    """

    init_from: Literal["scratch", "pretrained"]
    hidden: PositiveInt | None
    outliers: LocalPath
    controls: LocalPath
    auxiliary_count: PositiveInt
    auxiliary_batch: PositiveInt
    class_weights: Literal["equal", "balanced"]
    score: Annotated[dict[str, dict[str, Any]], Field(min_length=1)] | None
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)]

    @property
    def on_features(self) -> bool:
        """Classifiers are trained on features that the stage `features` wrote, and see no image."""
        return self.backbone == "frozen"
