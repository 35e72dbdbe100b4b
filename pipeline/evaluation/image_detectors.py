"""Detectors of pytorch-ood that need images or gradients, so that they run where the model does, in `infer`.

Adding one is one line in `IMAGE_DETECTORS`. A score is larger for OOD.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.runtime.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

# names to the classes of pytorch_ood.detector, which are given a function from images in 0..1 to logits
IMAGE_DETECTORS = {"odin": "ODIN"}


def build(name: str, options: dict[str, Any], model: Callable[["Tensor"], "Tensor"]) -> Callable[["Tensor"], "Tensor"]:
    """A detector: a function from images (n, channels, h, w) in 0..1 to scores (n,).

    ODIN's epsilon is in units of such images, as in OpenOOD, which divides the gradient's sign by the deviation that
    it normalises with.

    Args:
        name: a key of `IMAGE_DETECTORS`.
        options: arguments of the pytorch-ood class.
        model: images in 0..1 to logits, on the images' device.

    Raises:
        UserError: the detector is unknown, or its options do not fit.
    """
    if name not in IMAGE_DETECTORS:
        raise UserError(
            f"params.yaml: infer.detectors: unknown {name!r}; expected some of {', '.join(IMAGE_DETECTORS)}"
        )
    from pytorch_ood import detector as detectors  # seconds of imports, and most runs name no such detector

    try:
        detector = getattr(detectors, IMAGE_DETECTORS[name])(model, **options)
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(f"params.yaml: infer.detectors.{name}: {options}: {error}; correct its options") from None
    return lambda images: detector.predict(images)
