"""The command line: one command a stage, in the pipeline's order. A stage is imported only when called."""

import ast
import importlib
import os
import shlex
import subprocess
import time
from contextlib import nullcontext
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from pipeline import STAGES
from pipeline.errors import UserError

PER_RECIPE = ("train",)
SHARED = ("encode", "teacher", "boundary", "crossing", "diffusion", "embedding", "mixup", "shards", "train", "infer")
# The variable of the environment that says how to start the shared stages. It is not in params.yaml: where a stage runs
# is no part of what it computes, and DVC need not run it again.
LAUNCHER = "PENUMBRA_LAUNCHER"
PRESETS = {
    item.name.removesuffix(".yaml"): item
    for item in (files("pipeline") / "presets").iterdir()
    if item.name.endswith(".yaml")
}

app = typer.Typer(
    help="Make the outliers a classifier has never seen, and teach the classifier to know them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


def _help(stage: str) -> str:
    """The stage's own docstring, read without importing the stage and so without importing torch."""
    source = (files("pipeline") / f"{stage}.py").read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source))
    assert docstring is not None
    return docstring.replace("\nReads:", "\n\b\nReads:")


def _run(stage: str, *arguments: str) -> None:
    """Run one stage and note its cost beside, never inside, its outputs.

    Raises:
        UserError: several processes run what one process does; another run is at work; and what the stage raises.
        SystemExit: a launcher ran the stage.
    """
    if stage in SHARED and (launcher := os.environ.get(LAUNCHER)):
        raise SystemExit(_launch(launcher, stage, *arguments))
    from pipeline import processes, timings
    from pipeline.artifacts.files import alone

    start, name = time.monotonic(), "@".join([stage, *arguments])
    if processes.count() > 1 and stage not in SHARED:
        raise UserError(
            f"{stage}: started as {processes.count()} processes, but runs as one; start it without launcher"
        )
    processes.join()
    with alone(name) if processes.is_first() else nullcontext():
        if stage == STAGES[0]:  # every run has it: what is wrong further down shows now
            _check()
        importlib.import_module(f"pipeline.{stage}").main(*arguments)
    if processes.is_first():
        timings.record(name, time.monotonic() - start)
    processes.leave()


def _launch(launcher: str, *arguments: str) -> int:
    """Start a stage by a launcher, such as `accelerate launch --num_processes 8`; gives its exit status."""
    rest = {name: value for name, value in os.environ.items() if name != LAUNCHER}
    try:
        return subprocess.run([*shlex.split(launcher), "-m", "pipeline", *arguments], env=rest).returncode
    except (OSError, ValueError) as error:
        raise UserError(
            f"{LAUNCHER} is {launcher!r}, which cannot be started ({error}); correct it or unset it"
        ) from None


def _check() -> None:
    from pipeline.schema import check as check_params

    check_params()


def _register(stage: str) -> None:
    if stage in PER_RECIPE:

        @app.command(stage, help=_help(stage))
        def _(recipe: Annotated[str, typer.Argument(help="a name under `recipes` in params.yaml")]) -> None:
            _run(stage, recipe)
    elif stage == "score":
        app.command(stage, help=_help(stage))(_score)
    else:

        @app.command(stage, help=_help(stage))
        def _() -> None:
            _run(stage)


def _score(
    outputs: Annotated[
        Path | None,
        typer.Option(help="score these, not data/outputs: a model's folder, or RECIPE/s<seed> folders"),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="with --outputs: folder of the tables, else OUTPUTS-metrics")] = None,
    detectors: Annotated[str | None, typer.Option(help="with --outputs: some detectors by name, with commas")] = None,
) -> None:
    if outputs is None:
        return _run("score")
    from pipeline.score import elsewhere

    target = to or outputs.with_name(f"{outputs.name}-metrics")
    elsewhere(outputs, target, detectors.split(",") if detectors else None)
    typer.echo(f"{target}: summary.json and the other tables, see metrics/ in README.md")


for _stage in STAGES:
    _register(_stage)


@app.command()
def check() -> None:
    """Check the whole of params.yaml; names every problem with its line."""
    _check()
    typer.echo("params.yaml: no problem found")


@app.command()
def preset(
    name: Annotated[str, typer.Argument(help=", ".join(sorted(PRESETS)))],
    force: Annotated[bool, typer.Option(help="overwrite a params.yaml that was edited")] = False,
) -> None:
    """Write params.yaml from a preset."""
    if name not in PRESETS:
        raise UserError(f"preset {name!r}: unknown; expected one of {', '.join(sorted(PRESETS))}")
    target = Path("params.yaml")
    texts = {item.read_text(encoding="utf-8") for item in PRESETS.values()}
    if target.exists() and target.read_text(encoding="utf-8") not in texts and not force:
        raise UserError(f"{target}: was edited; keep a copy and run again with --force to overwrite it")
    target.write_text(PRESETS[name].read_text(encoding="utf-8"), encoding="utf-8")
    typer.echo(f"{target}: preset {name}; now run `dvc repro`")


Model = Annotated[str, typer.Option(help="a model's folder, or its id on the Hugging Face Hub")]
Revision = Annotated[str | None, typer.Option(help="the 40-digit commit of a model from the Hub")]
OURS = "data/models/recipes/penumbra/s0"


@app.command()
def predict(
    paths: Annotated[list[str], typer.Argument(help="image files, folders or globs")],
    model: Model = OURS,
    revision: Revision = None,
    batch: Annotated[int, typer.Option(min=1, help="images in memory")] = 64,
    json: Annotated[bool, typer.Option("--json", help="a JSON object a line")] = False,
    parquet: Annotated[Path | None, typer.Option(help="write a parquet file in place of the lines")] = None,
) -> None:
    """Say of images which class they are, how sure that is, and whether they are known at all.

    An image is unknown where its score is above the model's threshold. One that cannot be read is named and skipped;
    the exit status is then 1.
    """
    from pipeline.console import track
    from pipeline.serving import open_set
    from pipeline.serving import predict as serving

    found = serving.find(paths)
    rows = serving.predict(open_set.load(model, revision), found, batch)
    if parquet is not None:
        rows = track(serving.write_parquet(rows, parquet, batch), "predict", len(found))
    elif not json:
        typer.echo(serving.HEADER)
    skipped = 0
    for row in rows:
        skipped += "error" in row
        if parquet is None or "error" in row:
            typer.echo(serving.line(row, json and parquet is None), err="error" in row and not json)
    if skipped:
        raise UserError(f"{skipped} of {len(found)} files were skipped; their reasons stand above")


@app.command()
def export(
    to: Annotated[Path, typer.Argument(help="the ONNX file to write")], model: Model = OURS, revision: Revision = None
) -> None:
    """Write a trained model as ONNX, the score and the verdict inside, and check it with onnxruntime."""
    from pipeline.serving import open_set
    from pipeline.serving.export import export as write

    difference = write(open_set.load(model, revision), to)
    typer.echo(f"{to}: says what the model says, to {difference:.1g}")


@app.command("push")
def push_model(
    repository: Annotated[str, typer.Argument(help="owner/name on the Hugging Face Hub")], model: Model = OURS
) -> None:
    """Upload a trained model to the Hugging Face Hub; prints the commit that others pin."""
    from pipeline.artifacts.models import push as upload

    typer.echo(f"{repository}: commit {upload(Path(model), repository)}")


sharing = typer.Typer(help="Check, show, merge, upload and download outlier datasets.", no_args_is_help=True)
app.add_typer(sharing, name="outliers")
Dataset = Annotated[Path, typer.Argument(help="folder of an outlier dataset")]


@sharing.command()
def verify(folder: Dataset) -> None:
    """Check schema, checksums and counts, and decode every sample; exit status 1 if anything does not hold."""
    from pipeline.artifacts.sharing import check

    about = check(folder)
    count = sum(shard["samples"] for shard in about["shards"])
    typer.echo(f"{folder}: {count} samples in {len(about['shards'])} shards hold")


@sharing.command()
def show(folder: Dataset) -> None:
    """Print what a dataset holds: methods, counts, reasons of rejection, origin."""
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


@sharing.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(help="two or more outlier datasets of the same ID classes")],
    to: Annotated[Path, typer.Option(help="folder of the result")],
    per_shard: Annotated[int, typer.Option(min=1, help="samples in a shard of the result")] = 1000,
) -> None:
    """Merge outlier datasets into one."""
    from pipeline.artifacts.sharing import merge as merge_datasets

    about = merge_datasets(folders, to, per_shard)
    typer.echo(f"{to}: " + ", ".join(f"{method} {counts['packed']}" for method, counts in about["methods"].items()))


@sharing.command()
def push(
    folder: Dataset, repository: Annotated[str, typer.Argument(help="owner/name on the Hugging Face Hub")]
) -> None:
    """Upload a dataset to the Hugging Face Hub; prints the commit that others pin."""
    from pipeline.artifacts.sharing import push as upload

    typer.echo(f"{repository}: commit {upload(folder, repository)}")


@sharing.command()
def pull(
    repository: Annotated[str, typer.Argument(help="owner/name on the Hugging Face Hub")],
    revision: Annotated[str, typer.Option(help="the 40-digit commit its owner names")],
    to: Annotated[Path, typer.Option(help="folder of the result")],
) -> None:
    """Download a dataset at a pinned commit and check it."""
    from pipeline.artifacts.sharing import pull as download

    about = download(repository, revision, to)
    typer.echo(f"{to}: {', '.join(about['methods'])}; set train.outliers to it, then `dvc repro report`")


def main() -> None:
    """Run the command line; a user's error is one line and exit status 1."""
    try:
        app()
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
