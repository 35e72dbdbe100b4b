"""Section `infer`."""

from typing import Any

from pydantic import PositiveInt

from pipeline.settings.section import Section


class InferSettings(Section):
    """How outputs are computed, and the detectors that need images (name: arguments, a list is a choice)."""

    batch: PositiveInt
    train_images: PositiveInt | None
    detectors: dict[str, dict[str, Any]]
