"""Control `sharpened`: ID images with their details doubled.

Nothing is unknown about them but their sharpness. What helps as much, helps by sharpness.
"""

from typing import TYPE_CHECKING

from pipeline.methods import Control, Draw, Input, Inputs

if TYPE_CHECKING:
    from pipeline.artifacts.candidates import Candidates


class Settings(Control):
    """None."""

    strength = "1, for it has one parent"

    @property
    def reads(self) -> tuple[Input, ...]:
        return ("images",)


def method(settings: Settings, inputs: Inputs) -> Draw:
    """Sharpened images in passes over all of them."""
    import torch

    from pipeline.artifacts.candidates import Candidates
    from pipeline.shortcuts.corrections import details
    from pipeline.synthesis.drawing import rows_in_passes

    id_set = inputs.images

    def draw(indices: range) -> "Candidates":
        rows = rows_in_passes(inputs.seed, indices, len(id_set))
        images = id_set.pixels[rows].float()
        pixels = (images + details(images)).round().clamp(0, 255).to(torch.uint8)
        return Candidates.of_images(pixels, id_set.labels[rows], torch.ones(len(rows)), rows)

    return draw
