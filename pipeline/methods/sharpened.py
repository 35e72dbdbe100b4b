"""Control `sharpened`: ID images with their details doubled.

Nothing is unknown about them but their sharpness. What helps as much, helps by sharpness.
"""

from pipeline.methods import Control, Draw, Input, Inputs


class Settings(Control):
    """None."""

    strength = "1, for it has one parent"
    source_type = "algorithmicallyEnhanced"

    @property
    def reads(self) -> tuple[Input, ...]:
        return ("images",)


def method(settings: Settings, inputs: Inputs) -> Draw:
    """Sharpened images in passes over all of them."""
    import torch

    from pipeline.shortcuts.corrections import details
    from pipeline.synthesis.drawing import changed_id

    def sharpen(pixels: torch.Tensor) -> torch.Tensor:
        images = pixels.float()
        return (images + details(images)).round().clamp(0, 255).to(torch.uint8)

    return changed_id(inputs.images, inputs.seed, sharpen, strength=1.0)
