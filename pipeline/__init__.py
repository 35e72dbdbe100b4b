"""Penumbra: make the outliers a classifier has never seen, and teach the classifier to know them."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
STAGES = (
    "fingerprint", "prepare", "autoencoder", "encode", "teacher", "diffusion", "sample", "shards", "features",
    "train", "infer", "score", "hold_out", "report",
)  # fmt: skip
PUBLIC = {  # what model cards and notebooks name
    "Classifier": "pipeline.classifier.networks", "OpenSetClassifier": "pipeline.serving.open_set",
    "Preprocess": "pipeline.serving.resize", "Selection": "pipeline.artifacts.selection",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what model cards and notebooks name when it is asked for: their lines hold wherever the code moves."""
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(PUBLIC[name]), name)
