"""Upload to the Hugging Face Hub."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from pipeline.runtime.errors import UserError, one_line


def upload(folder: Path, repository: str, kind: str, patterns: Sequence[str], message: str) -> str:
    """Upload what the patterns name to a Hub repository of a kind (`model`, `dataset`); returns the commit.

    Raises:
        UserError: the Hub refuses.
    """
    api = HfApi()
    try:
        api.create_repo(repository, repo_type=kind, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository, repo_type=kind, folder_path=folder, allow_patterns=list(patterns),
            commit_message=message,
        )  # fmt: skip
    except (HfHubHTTPError, OSError) as error:
        raise UserError(
            f"{repository}: the Hub refused ({one_line(error)}); check the name and `hf auth login`"
        ) from None
    return done.oid
