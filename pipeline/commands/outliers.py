"""`penumbra outliers`: check, show, merge, upload and download outlier datasets."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import Force, as_path

outliers = typer.Typer(help="Verify, show, merge, upload and download outlier datasets.", no_args_is_help=True)
Dataset = Annotated[Path, typer.Argument(help="folder of an outlier dataset", parser=as_path)]


@outliers.command()
def verify(folder: Dataset) -> None:
    """Check schema, checksums and counts, and decode every sample; the exit status is 1 if anything is wrong."""
    from pipeline.hub.datasets import verify as verify_dataset

    about = verify_dataset(folder)
    count = sum(shard["samples"] for shard in about["shards"])
    typer.echo(f"{folder}: {count} samples in {len(about['shards'])} shards hold")


@outliers.command()
def show(folder: Dataset) -> None:
    """Print what a dataset contains: methods, counts, reasons of rejection, origin."""
    from rich.console import Console
    from rich.table import Table

    from pipeline.artifacts.outliers import verify as check

    about = check(folder)
    table = Table("method", "packed", "candidates", "rejected, by reason")
    for method, counts in about["methods"].items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in counts["rejected"].items())
        table.add_row(method, str(counts["packed"]), str(counts["candidates"]), reasons)
    Console().print(table)
    names = ", ".join(about["id"]["classes"])
    typer.echo(f"ID: {about['id']['count']} images of {names}, {about['id']['shape']}; licence {about['licence']}")
    typer.echo(f"pictures: {folder / 'contact-sheet.png'}")


@outliers.command()
def merge(
    folders: Annotated[
        list[Path], typer.Argument(help="two or more outlier datasets of the same ID classes", parser=as_path)
    ],
    to: Annotated[Path, typer.Option(help="folder of the result")],
    per_shard: Annotated[int, typer.Option(min=1, help="samples per shard of the result")] = 1000,
    force: Force = False,
) -> None:
    """Merge outlier datasets into one."""
    from pipeline.hub.datasets import merge as merge_datasets

    about = merge_datasets(folders, to, per_shard, force)
    typer.echo(f"{to}: " + ", ".join(f"{method} {counts['packed']}" for method, counts in about["methods"].items()))


@outliers.command()
def push(
    folder: Dataset, repository: Annotated[str, typer.Argument(help="owner/name on the Hugging Face Hub")]
) -> None:
    """Upload a dataset to the Hugging Face Hub and print the commit to pin."""
    from pipeline.hub.datasets import push as upload

    typer.echo(f"{repository}: commit {upload(folder, repository)}")


@outliers.command()
def pull(
    repository: Annotated[str, typer.Argument(help="owner/name on the Hugging Face Hub")],
    revision: Annotated[str, typer.Option(help="the 40-digit commit to download")],
    to: Annotated[Path, typer.Option(help="folder of the result")],
    force: Force = False,
) -> None:
    """Download a dataset at a pinned commit and verify it."""
    from pipeline.hub.datasets import pull as download

    about = download(repository, revision, to, force)
    typer.echo(f"{to}: {', '.join(about['methods'])}; set train.outliers to it, then `dvc repro report`")
