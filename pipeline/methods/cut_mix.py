"""Control `cut-mix`: a square of one ID image in another of a different class (CutMix, Yun et al. 2019)."""

from typing import TYPE_CHECKING

from pipeline.methods import Control, Draw, Input, Inputs

if TYPE_CHECKING:
    import numpy as np

    from pipeline.artifacts.candidates import Candidates

AREA = (0.25, 0.75)  # of the image that is taken from the second
SOFT = 1 / 16  # of the image's side: standard deviation of the blur of a soft edge


class Settings(Control):
    """None."""

    strength = "share of parent a, 0 to 1"
    source_type = "composite"

    @property
    def reads(self) -> tuple[Input, ...]:
        return ("images",)


def square(random: "np.random.Generator", size: int, soft: bool) -> "np.ndarray":
    """The share of the second image at each pixel, float64 (size, size): a random square, its edge sharp or blurred."""
    import numpy as np

    side = max(1, round(size * random.uniform(*AREA) ** 0.5))
    top, left = random.integers(0, size - side + 1, size=2)
    mask = np.zeros((size, size))
    mask[top : top + side, left : left + side] = 1
    if soft:
        from skimage.filters import gaussian

        mask = gaussian(mask, SOFT * size, mode="nearest")
    return mask


def method(settings: Settings, inputs: Inputs, soft: bool = False) -> Draw:
    """Pairs of random images; `soft` blurs the square's edge and nothing else."""
    from pipeline.artifacts.candidates import Candidates
    from pipeline.synthesis.drawing import two_rows
    from pipeline.synthesis.randomness import generator

    labels, pixels = inputs.images.labels.numpy(), inputs.images.pixels.numpy()

    def draw(indices: range) -> "Candidates":
        images, rows, shares = [], [], []
        for i in indices:
            random = generator(inputs.seed, "cut-mix", i)
            first, second = two_rows(random, labels)
            mask = square(random, pixels.shape[-1], soft)
            images.append(((1 - mask) * pixels[first] + mask * pixels[second]).round().astype("uint8"))
            rows.append((first, second))
            shares.append(1 - mask.mean())
        return Candidates.of_pairs(images, rows, shares, inputs.images.labels)

    return draw
