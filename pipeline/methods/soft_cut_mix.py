"""Control `soft-cut-mix`: `cut-mix` with a blurred edge, the same content without a new edge.

What `cut-mix` gains and this does not, is gained by the edge.
"""

from pipeline.methods import Draw, Inputs, cut_mix


class Settings(cut_mix.Settings):
    """None."""


def method(settings: Settings, inputs: Inputs) -> Draw:
    """The squares of `cut-mix`, blurred at the edge."""
    return cut_mix.method(settings, inputs, soft=True)
