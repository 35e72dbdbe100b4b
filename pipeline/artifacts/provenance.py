"""Where a model of others came from: its id, its commit, the checksums of its weights, its licence."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from yaml import YAMLError

from pipeline.runtime.files import sha256

UNKNOWN = "unknown"
RESTRICTED = "creativeml-openrail-m"  # of every Stable Diffusion 1.x: it forbids uses, and so must what is passed on
RESTRICTIONS = (
    "The Stable Diffusion 1.x weights come under CreativeML OpenRAIL-M. Whoever passes on images made with them, or a "
    "model that reproduces them, has to pass on its use restrictions (attachment A of the licence): among them no harm "
    "to minors, no harassment, no disinformation, no medical advice, no law enforcement by prediction."
)


def provenance(source: str, revision: str | None, licence: str = UNKNOWN) -> dict[str, Any]:
    """What a dataset.json says of a model that was downloaded.

    Args:
        source: a local folder, or the Hub id of a model that has been loaded: nothing is downloaded but its card.
        revision: the commit of a Hub id.
        licence: where its card names none, or cannot be had.

    Returns:
        source, revision, licence and, by path, the SHA-256 of each file of weights.
    """
    folder = _folder(source, revision)
    weights = sorted(folder.rglob("*.safetensors"))
    return {
        "source": source,
        "revision": revision,
        "licence": _licence(folder / "README.md") or licence,
        "files": {path.relative_to(folder).as_posix(): sha256(path) for path in weights},
    }


def _folder(source: str, revision: str | None) -> Path:
    if (local := Path(source)).is_dir():
        return local
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=["README.md"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError):  # no network: what loading it left is there
        return Path(snapshot_download(source, revision=revision, local_files_only=True))


def _licence(card: Path) -> str | None:
    if not card.is_file():
        return None
    try:
        return ModelCard.load(card).data.get("license")
    except (ValueError, YAMLError):  # a card whose front matter is not YAML names none
        return None


def chain(identity: str, generators: dict[str, dict[str, Any]], result: str) -> dict[str, Any]:
    """The licences that come together in a dataset: the ID images', those of generators that others made, its own."""
    own = {name: about["licence"] for name, about in generators.items() if "licence" in about}
    return {"id": identity, "generators": own, "result": result}
