"""Control `noise`: uniform and Gaussian noise in turn. The least that an outlier method has to beat."""

from typing import TYPE_CHECKING

from pipeline.methods import Control, Draw, Input, Inputs

if TYPE_CHECKING:
    from pipeline.artifacts.candidates import Candidates

GAUSSIAN_STD = 64.0  # grey levels around the middle grey


class Settings(Control):
    """None."""

    has_parents = False
    strength = "0, for it has no parents"
    source_type = "algorithmicMedia"

    @property
    def reads(self) -> tuple[Input, ...]:
        return ("images",)  # their shape


def method(settings: Settings, inputs: Inputs) -> Draw:
    """Noise images of the ID images' shape."""
    import numpy as np
    import torch

    from pipeline.artifacts.candidates import Candidates
    from pipeline.synthesis.randomness import generator

    shape = tuple(inputs.images.pixels.shape[1:])

    def draw(indices: range) -> "Candidates":
        images = np.empty((len(indices), *shape), dtype=np.uint8)
        for image, i in zip(images, indices, strict=True):
            random = generator(inputs.seed, "noise", i)
            if i % 2:
                image[:] = random.normal(127.5, GAUSSIAN_STD, shape).round().clip(0, 255).astype(np.uint8)
            else:
                image[:] = random.integers(0, 256, shape)
        return Candidates.of_nothing(torch.from_numpy(images))

    return draw
