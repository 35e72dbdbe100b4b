"""Trained models on the Hugging Face Hub."""

from pathlib import Path

from pipeline.artifacts.detector import FILES
from pipeline.hub.upload import upload
from pipeline.runtime.errors import UserError

PUBLISHED = ("config.json", "model.safetensors", *FILES, "README.md")


def push(folder: Path, repository: str) -> str:
    """Upload a trained model with its detector and card to the Hugging Face Hub; returns the commit that others pin.

    Raises:
        UserError: a file is missing, or the Hub refuses.
    """
    if missing := [name for name in PUBLISHED if not (folder / name).is_file()]:
        raise UserError(f"{folder}: no {', '.join(missing)}; name a folder that `train` wrote")
    return upload(folder, repository, "model", PUBLISHED, "Classifier")
