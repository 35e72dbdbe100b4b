"""Models of the Hugging Face Hub are pinned by their commit. Imports no torch."""

import re
from pathlib import Path

from pipeline.runtime.errors import UserError

COMMIT = re.compile(r"[0-9a-f]{40}")


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
