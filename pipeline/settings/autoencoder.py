"""Section `autoencoder`: which one, and how a small one is trained."""

from typing import Annotated, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.settings.section import LocalPath, Section, Width

MADE_HERE = ("train", "pixels")  # values of `source` that stand for no model of others


class AutoencoderSettings(Section):
    """`source` is `train`, `pixels` (no autoencoder), a local folder or a Hub id, which needs its `revision`."""

    source: LocalPath
    revision: str | None
    size: PositiveInt
    widths: Annotated[list[Width], Field(min_length=1)]
    latent_channels: PositiveInt
    steps: PositiveInt
    batch: PositiveInt
    learning_rate: PositiveFloat
    kl_weight: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _size_halves(self) -> Self:
        factor = 2 ** (len(self.widths) - 1)
        if self.size % factor or self.size < 2 * factor:  # a latent of one pixel has nothing to normalise over
            expected = f"a multiple of {factor}, {2 * factor} or more, for {len(self.widths)} widths"
            raise ValueError(f"size is {self.size}, expected {expected}")
        return self
