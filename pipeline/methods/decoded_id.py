"""Control `decoded-id`: ID training images as the decoder shows them, draws from their posteriors.

With these as further ID images in training, "decoded" is no longer a sign of "unknown".
"""

from typing import TYPE_CHECKING

from pipeline.methods import Control, Draw, Input, Inputs

if TYPE_CHECKING:
    from pipeline.artifacts.candidates import Candidates


class Settings(Control):
    """None."""

    is_id = True
    strength = "1, for it has one parent"

    @property
    def reads(self) -> tuple[Input, ...]:
        return ("latents",)


def method(settings: Settings, inputs: Inputs) -> Draw:
    """Draws in passes over all images."""
    import torch

    from pipeline.artifacts.candidates import Candidates
    from pipeline.synthesis.drawing import rows_in_passes
    from pipeline.synthesis.randomness import normal

    latents = inputs.latents

    def draw(indices: range) -> "Candidates":
        rows = rows_in_passes(inputs.seed, indices, len(latents.keys))
        noise = normal(inputs.seed, "decoded-id", indices, tuple(latents.mean.shape[1:]))
        parents = latents.labels[rows][:, None].repeat(1, 2)
        raw_latents = latents.mean[rows] + latents.std[rows] * noise
        return Candidates.of_latents(raw_latents, parents, torch.ones(len(rows)), rows)

    return draw
