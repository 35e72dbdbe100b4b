"""Section `teacher`."""

from pydantic import NonNegativeInt

from pipeline.settings.training import TrainingSettings


class TeacherSettings(TrainingSettings):
    """The teacher, and the seeds of further classifiers like it."""

    pretrained_seeds: list[NonNegativeInt]
