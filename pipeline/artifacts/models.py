"""Model folders: a config and safetensors weights, never a pickle."""

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from safetensors import SafetensorError

from pipeline.runtime.errors import UserError, one_line
from pipeline.runtime.files import read_json_object


def load(kind: Any, source: Path | str, **options: Any) -> Any:
    """Load a model in float32 and eval mode, on the CPU and without gradients.

    Args:
        kind: a class with `from_pretrained`, such as a diffusers model.
        source: a folder with config.json and safetensors weights, or a Hub id.
        options: of `from_pretrained`.

    Raises:
        UserError: the folder is not there or has no config or no safetensors weights, or the model cannot be loaded.
    """
    if (folder := Path(source)).is_dir():
        read_json_object(folder / "config.json")  # named here, for a loader says what its model's arguments lack
    return _from_pretrained(kind, source, "*model*.safetensors", options).float().eval().requires_grad_(False)


def load_pipeline(kind: Any, source: Path | str, **options: Any) -> Any:
    """Load a diffusers pipeline in float32, on the CPU; its models are in sub-folders.

    Args:
        kind: a pipeline class.
        source: a folder with model_index.json, or a Hub id.
        options: of `from_pretrained`.

    Raises:
        UserError: the folder has no safetensors weights, or the pipeline cannot be loaded.
    """
    return _from_pretrained(kind, source, "*/*.safetensors", options)


def parts_of(source: str, revision: str | None) -> set[str]:
    """The names of the parts that a diffusers pipeline, a local folder or a Hub id at a commit, has.

    Raises:
        UserError: it has no model_index.json.
    """
    index = read_json_object(file(source, revision, "model_index.json"))
    return {name for name, part in index.items() if isinstance(part, list) and part[0]}


def _from_pretrained(kind: Any, source: Path | str, weights: str, options: dict[str, Any]) -> Any:
    folder = Path(source)
    if isinstance(source, Path) and not folder.is_dir():  # a Hub id is never a path
        raise UserError(f"{folder}: not found; run the stage that writes it, or `dvc pull`")
    if folder.is_dir() and not any(folder.glob(weights)):
        raise UserError(f"{folder}: no safetensors weights (pickles are never loaded); run the stage that writes it")
    try:
        with redirect_stdout(io.StringIO()):  # the hub's loader prints
            return kind.from_pretrained(str(source), **options)
    except UserError as error:  # of the model's own checks, which do not know where its config came from
        raise UserError(f"{source}: {error}") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        what = f"{source}: cannot be loaded as a model ({one_line(error)[:300]})"
        if folder.is_dir():
            raise UserError(f"{what}; run the stage that writes it") from None
        revision = options.get("revision")
        raise UserError(
            f"{what}; where there is no network, fetch it elsewhere with `hf download {source} --revision {revision} "
            "--local-dir FOLDER` and set the source to FOLDER"
        ) from None


def file(source: str, revision: str | None, name: str) -> Path:
    """A file of a local folder, which need not be there, or of a Hub repository at a commit.

    Raises:
        UserError: it cannot be downloaded.
    """
    if Path(source).is_dir():
        return Path(source) / name
    try:
        return Path(hf_hub_download(source, name, revision=revision))
    except (OSError, ValueError) as error:
        raise UserError(
            f"model {source!r}: {name} cannot be downloaded ({one_line(error)}); check its name and commit"
        ) from None


def weights_file(source: str, revision: str | None) -> Path:
    """The file model.safetensors of a local folder, or of a Hub repository at a commit.

    Raises:
        UserError: there is none, or it cannot be downloaded.
    """
    if not (path := file(source, revision, "model.safetensors")).is_file():
        raise UserError(f"{source}: no model.safetensors (pickles are never loaded); convert the weights")
    return path
