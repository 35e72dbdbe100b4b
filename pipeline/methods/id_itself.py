"""Control `id-itself`: ID images, unchanged, as outliers.

Exposed to them a classifier learns to be less sure of everything, which is label smoothing. What helps as much helps by
that.
"""

from typing import TYPE_CHECKING

from pipeline.methods import Control, Draw, Input, Inputs

if TYPE_CHECKING:
    from pipeline.artifacts.candidates import Candidates


class Settings(Control):
    """None."""

    strength = "0, for it is unchanged"

    @property
    def reads(self) -> tuple[Input, ...]:
        return ("images",)


def method(settings: Settings, inputs: Inputs) -> Draw:
    """ID images in passes over all of them."""
    import torch

    from pipeline.artifacts.candidates import Candidates
    from pipeline.synthesis.drawing import rows_in_passes

    id_set = inputs.images

    def draw(indices: range) -> "Candidates":
        rows = rows_in_passes(inputs.seed, indices, len(id_set))
        return Candidates.of_images(id_set.pixels[rows], id_set.labels[rows], torch.zeros(len(rows)), rows)

    return draw
