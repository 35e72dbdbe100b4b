"""Control `pixel-mixup`: two ID images of different classes, one over the other (mixup, Zhang et al. 2018)."""

from typing import TYPE_CHECKING

from pipeline.methods import Control, Draw, Input, Inputs

if TYPE_CHECKING:
    from pipeline.artifacts.candidates import Candidates

SHARE = (0.3, 0.7)  # of the first image


class Settings(Control):
    """None."""

    strength = "share of parent a, 0 to 1"
    source_type = "composite"

    @property
    def reads(self) -> tuple[Input, ...]:
        return ("images",)


def method(settings: Settings, inputs: Inputs) -> Draw:
    """Mixtures of random pairs."""
    from pipeline.artifacts.candidates import Candidates
    from pipeline.synthesis.drawing import two_rows
    from pipeline.synthesis.randomness import generator

    labels, pixels = inputs.images.labels.numpy(), inputs.images.pixels.numpy()

    def draw(indices: range) -> "Candidates":
        images, rows, shares = [], [], []
        for i in indices:
            random = generator(inputs.seed, "pixel-mixup", i)
            first, second = two_rows(random, labels)
            share = random.uniform(*SHARE)
            images.append((share * pixels[first] + (1 - share) * pixels[second]).round().astype("uint8"))
            rows.append((first, second))
            shares.append(share)
        return Candidates.of_pairs(images, rows, shares, inputs.images.labels)

    return draw
