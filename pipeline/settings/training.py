"""How a classifier is trained: what the sections `teacher` and `train` have in common."""

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from pipeline.settings.section import Decay, LocalPath, Precision, Section

EFFICIENTNET_LITE0 = "efficientnet-lite0"  # weights of the package that `penumbra[photos]` brings


class TrainingSettings(Section):
    """How a classifier is trained; the same for every recipe, so that recipes can be compared.

    Attributes:
        weights: pretrained, of a network of timm: `efficientnet-lite0` of an installed package, a safetensors file, a
            folder with one, or an id of the Hub.
        backbone: what of the network learns: all of it, its last stage, or none of it, which leaves the last layer.
            What is pretrained and learns keeps the statistics of its batch normalisation.
        backbone_learning_rate: of the network, where it differs from that of the last layer.
        augmentation: `shift` by some pixels, or `photos`: random crops, mirror images, colours.
    """

    network: str
    weights: LocalPath | None
    revision: str | None
    backbone: Literal["all", "last-stage", "frozen"]
    steps: PositiveInt
    batch: PositiveInt
    learning_rate: PositiveFloat
    backbone_learning_rate: PositiveFloat | None
    weight_decay: NonNegativeFloat
    augmentation: Literal["shift", "photos"]
    shift: NonNegativeInt
    flip: bool
    warmup: NonNegativeInt
    ema: Decay
    precision: Precision
    compile: bool
    in_memory: bool
    checkpoint_every: PositiveInt
