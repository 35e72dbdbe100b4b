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
        kind: a class with `from_pretrained`, such as `diffusers.AutoModel`.
        source: a folder with config.json and safetensors weights, or a Hub id.
        options: of `from_pretrained`.

    Raises:
        UserError: the folder has no safetensors weights, or the model cannot be loaded.
    """
    folder = Path(source)
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise UserError(f"{folder}: no safetensors weights (pickles are never loaded); run the stage that writes it")
    try:
        with redirect_stdout(io.StringIO()):  # the hub's loader prints
            model = kind.from_pretrained(str(source), **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{source}: cannot be loaded as a model ({reason}); run the stage that writes it") from None
    return model.float().eval().requires_grad_(False)


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
