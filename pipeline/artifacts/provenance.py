"""Where a model of others came from: its id, its commit, the checksums of its weights, its licence."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from yaml import YAMLError

from pipeline.artifacts import models
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import sha256

UNKNOWN = "unknown"
RESTRICTED = "creativeml-openrail-m"  # of every Stable Diffusion 1.x: it forbids uses, and so must what is passed on
RESTRICTIONS = (
    "The Stable Diffusion 1.x weights come under CreativeML OpenRAIL-M. Whoever passes on images made with them, or a "
    "model that reproduces them, has to pass on its use restrictions (attachment A of the licence): among them no harm "
    "to minors, no harassment, no disinformation, no medical advice, no law enforcement by prediction."
)


def provenance(
    source: str, revision: str | None, weights: Sequence[str] = (), default: str = UNKNOWN
) -> dict[str, Any]:
    """What a dataset.json says of a model that was downloaded: source, revision, licence, and SHA-256 by file.

    Args:
        source: a local folder, or the Hub id of a model that has been loaded.
        revision: the commit of a Hub id.
        weights: files of it to take the checksums of.
        default: its licence where its card names none, or cannot be had.

    Raises:
        UserError: a file cannot be had.
    """
    files = {name: sha256(models.file(source, revision, name)) for name in weights}
    return {"source": source, "revision": revision, "licence": _licence(source, revision) or default, "files": files}


def _licence(source: str, revision: str | None) -> str | None:
    """What a model's card says."""
    try:
        card: Path = models.file(source, revision, "README.md")
        return ModelCard.load(card).data.get("license") if card.is_file() else None
    except (UserError, ValueError, YAMLError):  # no card, or one whose front matter is not YAML
        return None


def chain(identity: str, generators: dict[str, dict[str, Any]], result: str) -> dict[str, Any]:
    """The licences that come together in a dataset: the ID images', those of generators that others made, its own."""
    own = {name: about["licence"] for name, about in generators.items() if "licence" in about}
    return {"id": identity, "generators": own, "result": result}
