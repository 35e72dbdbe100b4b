"""Model folders: a config and safetensors weights, never a pickle."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError

from pipeline.errors import UserError

PUBLISHED = ("config.json", "model.safetensors", "detector.json", "README.md")
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
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{source}: cannot be loaded as a model ({reason}); run the stage that writes it") from None


def weights_file(source: str, revision: str | None) -> Path:
    """The file model.safetensors of a local folder, or of a Hub repository at a commit.

    Raises:
        UserError: there is none, or it cannot be downloaded.
    """
    if (folder := Path(source)).is_dir():
        if not (path := folder / "model.safetensors").is_file():
            raise UserError(f"{folder}: no model.safetensors (pickles are never loaded); convert the weights")
        return path
    try:
        return Path(hf_hub_download(source, "model.safetensors", revision=revision))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"model {source!r}: cannot be downloaded ({reason}); check its name and commit") from None


def push(folder: Path, repository: str) -> str:
    """Upload a trained model with its detector and card to the Hugging Face Hub; gives the commit that others pin.

    Raises:
        UserError: a file is missing, or the Hub refuses.
    """
    if missing := [name for name in PUBLISHED if not (folder / name).is_file()]:
        raise UserError(f"{folder}: no {', '.join(missing)}; name a folder that `train` wrote")
    api = HfApi()
    try:
        api.create_repo(repository, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository, folder_path=folder, allow_patterns=list(PUBLISHED), commit_message="Classifier"
        )
    except (HfHubHTTPError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{repository}: the Hub refused ({reason}); check the name and `hf auth login`") from None
    return done.oid


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
