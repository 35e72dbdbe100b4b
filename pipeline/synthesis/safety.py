"""Stable Diffusion's own safety checker: which images it would black out."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from pipeline.artifacts import models
from pipeline.runtime.processes import pick_device

SafetyChecker = Callable[[Tensor], Tensor]  # uint8 images (n, 3, h, w) -> bool (n,), true where one is unsafe
BATCH = 16  # images at once: a large vision transformer


@cache  # a large model, which a method and its corrected pools share
def load(source: str, revision: str | None) -> SafetyChecker | None:
    """The checker of a diffusers pipeline; None where it has none.

    Args:
        source, revision: a local folder, or a Hub id and its commit.

    Raises:
        UserError: it names one that cannot be loaded.
    """
    if not {"safety_checker", "feature_extractor"} <= models.parts_of(source, revision):
        return None
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPImageProcessor

    def part(kind: Any, name: str, **options: Any) -> Any:
        return models.load_pipeline(kind, source, revision=revision, subfolder=name, **options)

    checker = part(StableDiffusionSafetyChecker, "safety_checker", use_safetensors=True).eval().to(pick_device())
    extractor = part(CLIPImageProcessor, "feature_extractor")

    @torch.no_grad()
    def is_unsafe(pixels: Tensor) -> Tensor:
        found: list[bool] = []
        for images in pixels.split(BATCH):
            seen = extractor(list(images), return_tensors="pt").pixel_values.to(pick_device())
            found += checker(clip_input=seen, images=images.numpy().copy())[1]  # it blacks out its second argument
        return torch.tensor(found)

    return is_unsafe
