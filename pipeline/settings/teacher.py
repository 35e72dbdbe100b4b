"""Section `teacher`."""

from pydantic import NonNegativeInt

from pipeline.settings.section import LocalPath
from pipeline.settings.training import TrainingSettings


class TeacherSettings(TrainingSettings):
    """The teacher, the weights that it starts from, and the seeds of further classifiers like it."""

    pretrained_seeds: list[NonNegativeInt]
    weights: LocalPath | None
    revision: str | None
