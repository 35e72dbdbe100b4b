"""Control `oracle`: real OOD images, of the near-OOD validation sets.

A bound, not a method: who trains on them has no validation left.
"""

from typing import TYPE_CHECKING

from pipeline.methods import Control, Draw, Input, Inputs

if TYPE_CHECKING:
    from pipeline.artifacts.candidates import Candidates


class Settings(Control):
    """None."""

    has_parents = False
    strength = "0, for it has no parents"

    @property
    def reads(self) -> tuple[Input, ...]:
        return ("oracle",)


def method(settings: Settings, inputs: Inputs) -> Draw:
    """Real OOD images in passes over all of them."""
    from pipeline.artifacts.candidates import Candidates
    from pipeline.synthesis.drawing import rows_in_passes

    pixels = inputs.oracle

    def draw(indices: range) -> "Candidates":
        return Candidates.of_nothing(pixels[rows_in_passes(inputs.seed, indices, len(pixels))])

    return draw
