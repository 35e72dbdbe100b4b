"""Model folders: a config and safetensors weights, never a pickle."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import UserError

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderTiny

    from pipeline.learning.networks import Classifier
    from pipeline.synthesis.diffusion import ConditionalUNet

COMMIT = re.compile(r"[0-9a-f]{40}")


@contextmanager
def _readable(source: Path | str) -> Iterator[None]:
    """Turn a library's failure to load weights into one line."""
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
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


def load_autoencoder(source: Path | str, revision: str | None = None) -> "AutoencoderKL | AutoencoderTiny":
    """Load an autoencoder in float32 from a folder or, at a pinned commit, from the Hub.

    Raises:
        UserError: missing, unreadable, unpinned, or a model of another kind.
    """
    from diffusers import AutoencoderKL, AutoencoderTiny, AutoModel

    check_revision(str(source), revision)
    with _readable(source):
        model = AutoModel.from_pretrained(str(source), revision=revision, use_safetensors=True)
    if not isinstance(model, AutoencoderKL | AutoencoderTiny):
        raise UserError(f"{source}: a {type(model).__name__}, expected an AutoencoderKL or AutoencoderTiny")
    return model.float().eval().requires_grad_(False)


def save_classifier(folder: Path, model: "Classifier") -> None:
    """Write config.json, model.safetensors and a model card."""
    model.save_pretrained(folder)


def load_classifier(folder: Path) -> "Classifier":
    """Load a classifier in eval mode on the CPU.

    Raises:
        UserError: missing, unreadable, or pickled.
    """
    from pipeline.learning.networks import Classifier

    if not (folder / "model.safetensors").is_file():
        raise UserError(f"{folder}: no model.safetensors; run the stage that writes it, or `dvc pull`")
    with _readable(folder), redirect_stdout(io.StringIO()):  # the hub's loader prints
        return Classifier.from_pretrained(folder).eval().requires_grad_(False)


def load_diffusion(folder: Path) -> "ConditionalUNet":
    """Load the diffusion model in eval mode on the CPU.

    Raises:
        UserError: missing or unreadable.
    """
    from pipeline.synthesis.diffusion import ConditionalUNet

    with _readable(folder):
        return ConditionalUNet.from_pretrained(folder, use_safetensors=True).eval().requires_grad_(False)
