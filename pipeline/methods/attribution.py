"""Attribution outliers: ID images whose class evidence alone is changed (after ASCOOD, arXiv 2411.10794).

The teacher's gradient says which pixels speak for the class. Those are moved, or shuffled; camera, background and codec
stay as they are.
"""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from pipeline.methods import Draw, Input, Inputs, MethodSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor

    from pipeline.artifacts.candidates import Candidates


class Settings(MethodSettings):
    """What is changed, and how.

    Attributes:
        mode: `gradient` moves the `share` of the values with the largest absolute gradient of the teacher's logit along
            it; `shuffle` permutes the `share` of the pixels with the largest gradient among themselves, so that the
            histogram stays and the object goes.
        share: of the values or pixels, 0..1; 0.1 in the paper, 0.1 to 0.2 for `shuffle`.
        step: root mean square of the moved values' steps, in standard deviations of ID pixels; `gradient` alone.
        sign: `plus` moves towards more of the class, as the paper does, `minus` towards less, which its ablation
            finds far worse; `gradient` alone.
    """

    strength = "root mean square over the image of its way from the source, in standard deviations of ID pixels"
    count: PositiveInt
    mode: Literal["gradient", "shuffle"]
    share: Annotated[float, Field(gt=0, le=1)]
    step: PositiveFloat
    sign: Literal["plus", "minus"]
    batch: PositiveInt

    @property
    def reads(self) -> tuple[Input, ...]:
        return ("images", "teacher")


def shuffled(images: "Tensor", gradient: "Tensor", share: float, random: "Sequence[np.random.Generator]") -> "Tensor":
    """Images whose pixels of the largest gradient, summed over channels, changed places among themselves."""
    import torch

    from pipeline.classifier.attribution import largest

    mask = largest(gradient.abs().sum(dim=1), share).flatten(1)
    flat = images.flatten(2).clone()  # (n, channels, h * w)
    for image, own, generator in zip(flat, mask, random, strict=True):
        places = torch.nonzero(own).flatten()
        image[:, places] = image[:, places[torch.from_numpy(generator.permutation(len(places)))]]
    return flat.view(images.shape)


def method(settings: Settings, inputs: Inputs) -> Draw:
    """Candidates from random training images, the classes in turn."""
    import torch

    from pipeline.artifacts.candidates import Candidates
    from pipeline.classifier.attribution import attribution, moved
    from pipeline.synthesis import drawing, randomness
    from pipeline.training.batches import as_images

    teacher, id_set = inputs.teacher, inputs.images
    scale = teacher.std

    def draw(indices: range) -> "Candidates":
        rows = drawing.rows_by_class(id_set.labels, inputs.seed, "attribution-source", indices)
        images, labels = as_images(id_set.pixels[rows]).to(scale.device), id_set.labels[rows].to(scale.device)
        gradient = attribution(teacher, images, labels)
        if settings.mode == "gradient":
            changed = moved(images, gradient, scale, settings.share, settings.step, settings.sign)
        else:
            random = [randomness.generator(inputs.seed, "attribution", i) for i in indices]
            changed = shuffled(images, gradient, settings.share, random)
        pixels = (255 * changed).round().to(torch.uint8)
        way = ((as_images(pixels) - images) / scale).square().flatten(1).mean(dim=1).sqrt()
        return Candidates.of_images(pixels.cpu(), id_set.labels[rows], way.cpu(), rows)

    return draw
