"""Section `encode`: how an autoencoder is run, by `encode` and by everything that decodes."""

from pydantic import PositiveInt

from pipeline.settings.section import Precision, Section


class InferenceSettings(Section):
    """How an autoencoder is run.

    Attributes:
        batch: images at once. On a CPU 16 of 64 px are a third faster than 256: activations stay in its cache.
        precision: of the arithmetic. In bfloat16 latents are off by some hundredths of their deviation, pixels by a few
            grey levels; float16 is not offered: some of Stable Diffusion's autoencoders overflow in it (diffusers
            issue 7188).
    """

    batch: PositiveInt
    precision: Precision
