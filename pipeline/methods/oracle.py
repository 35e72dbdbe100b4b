"""Control `oracle`: real OOD images, of the near-OOD validation sets.

A bound, not a method: who trains on them has no validation left.
"""

from pipeline.methods import Control, Draw, Input, Inputs


class Settings(Control):
    """None."""

    has_parents = False
    strength = "0, for it has no parents"
    source_type = None

    @property
    def reads(self) -> tuple[Input, ...]:
        return ("oracle",)


def method(settings: Settings, inputs: Inputs) -> Draw:
    """Real OOD images in passes over all of them."""
    from pipeline.synthesis.drawing import in_passes

    return in_passes(inputs.oracle, inputs.seed)
