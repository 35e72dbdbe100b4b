"""How a classifier is trained: what the sections `teacher` and `train` have in common."""

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from pipeline.settings.section import Decay, Precision, Section


class TrainingSettings(Section):
    """How a classifier is trained; the same for every recipe, so that recipes can be compared."""

    network: str
    steps: PositiveInt
    batch: PositiveInt
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    warmup: NonNegativeInt
    shift: NonNegativeInt
    flip: bool
    ema: Decay
    precision: Precision
    compile: bool
    in_memory: bool
    checkpoint_every: PositiveInt
