"""Control `unknown`: real photographs of what the classes are not, of `prepare.folder.unknown`.

What `predict` called known, or unknown, and was looked at, can be trained on. No test or validation image is among
them: `prepare` refuses one that is.
"""

from pipeline.methods import Control, Draw, Input, Inputs


class Settings(Control):
    """None."""

    has_parents = False
    strength = "0, for it has no parents"
    source_type = None

    @property
    def reads(self) -> tuple[Input, ...]:
        return ("unknown",)


def method(settings: Settings, inputs: Inputs) -> Draw:
    """The photographs in passes over all of them."""
    from pipeline.synthesis.drawing import in_passes

    return in_passes(inputs.unknown, inputs.seed)
