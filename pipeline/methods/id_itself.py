"""Control `id-itself`: ID images, unchanged, as outliers.

Exposed to them a classifier learns to be less sure of everything, which is label smoothing. What helps as much helps by
that.
"""

from pipeline.methods import Control, Draw, Input, Inputs


class Settings(Control):
    """None."""

    strength = "0, for it is unchanged"
    source_type = None

    @property
    def reads(self) -> tuple[Input, ...]:
        return ("images",)


def method(settings: Settings, inputs: Inputs) -> Draw:
    """ID images in passes over all of them."""
    from pipeline.synthesis.drawing import changed_id

    return changed_id(inputs.images, inputs.seed, lambda pixels: pixels, strength=0.0)
