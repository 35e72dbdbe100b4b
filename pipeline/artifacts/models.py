"""Model folders: a config and safetensors weights, never a pickle."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

COMMIT = re.compile(r"[0-9a-f]{40}")


def load(kind: Any, source: Path | str, **options: Any) -> Any:
    """Load a model in float32 and eval mode, on the CPU and without gradients.

    Args:
        kind: a class with `from_pretrained`, such as a diffusers model.
        source: a folder with config.json and safetensors weights, or a Hub id.
        options: of `from_pretrained`.

    Raises:
        UserError: the folder has no safetensors weights, or the model cannot be loaded.
    """
    return _from_pretrained(kind, source, "*.safetensors", options).float().eval().requires_grad_(False)


def load_pipeline(kind: Any, source: Path | str, **options: Any) -> Any:
    """Load a diffusers pipeline in float32, on the CPU; its models stand in sub-folders.

    Args:
        kind: a pipeline class.
        source: a folder with model_index.json, or a Hub id.
        options: of `from_pretrained`.

    Raises:
        UserError: the folder has no safetensors weights, or the pipeline cannot be loaded.
    """
    return _from_pretrained(kind, source, "*/*.safetensors", options)


def _from_pretrained(kind: Any, source: Path | str, weights: str, options: dict[str, Any]) -> Any:
    folder = Path(source)
    if folder.is_dir() and not any(folder.glob(weights)):
        raise UserError(f"{folder}: no safetensors weights (pickles are never loaded); run the stage that writes it")
    try:
        with redirect_stdout(io.StringIO()):  # the hub's loader prints
            return kind.from_pretrained(str(source), **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{source}: cannot be loaded as a model ({reason}); run the stage that writes it") from None


def check_revision(source: str, revision: str | None) -> None:
    """Require the pinned commit of a model that comes from the Hub.

    Raises:
        UserError: `source` is no local folder and `revision` is not a full commit hash.
    """
    if not Path(source).is_dir() and not COMMIT.fullmatch(revision or ""):
        raise UserError(
            f"model {source!r}: revision {revision!r}, expected the 40-digit commit of a Hugging Face repository; "
            "pin it, or set the source to a local folder"
        )
