"""The command line: one command per stage, in the pipeline's order. A stage is imported only when called."""

import ast
import importlib
import os
import shlex
import subprocess
import sys
import time
from contextlib import nullcontext
from importlib.resources import files
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from pipeline import STAGES
from pipeline.runtime.errors import UserError

SHARED = ("encode", "teacher", "diffusion", "sample", "shards", "train", "infer")
# The variable of the environment that says how to start the shared stages. It is not in params.yaml: where a stage runs
# is no part of what it computes, and DVC need not run it again.
LAUNCHER = "PENUMBRA_LAUNCHER"
PRESETS = sorted(
    item.name.removesuffix(".yaml") for item in (files("pipeline") / "presets").iterdir() if item.name.endswith(".yaml")
)


def _at_home(path: str) -> str:
    """`~` as a shell expands it, which it does not behind `=` or in quotes."""
    return os.path.expanduser(path)  # noqa: PTH111  which leaves a name alone that is nobody's


def _path(path: str) -> Path:
    return Path(_at_home(path))


Force = Annotated[bool, typer.Option("--force", help="replace an earlier output of the same kind")]

app = typer.Typer(
    help="Generate synthetic outliers and train classifiers on them that detect out-of-distribution images.",
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
    from pipeline.runtime import processes, timings
    from pipeline.runtime.files import stage_lock

    start, name = time.monotonic(), "+".join([stage, *arguments])
    if processes.count() > 1 and stage not in SHARED:
        raise UserError(
            f"{stage}: started as {processes.count()} processes, but runs as one; start it without launcher"
        )
    processes.join()
    with stage_lock(name) if processes.is_first() else nullcontext():
        importlib.import_module(f"pipeline.{stage}").main(*arguments)
    if processes.is_first():
        timings.record(name, time.monotonic() - start)
    processes.leave()


def _launch(launcher: str, *arguments: str) -> int:
    """Start a stage by a launcher, such as `accelerate launch --num_processes 8`; returns its exit status."""
    rest = {name: value for name, value in os.environ.items() if name != LAUNCHER}
    try:
        return subprocess.run([*shlex.split(launcher), "-m", "pipeline", *arguments], env=rest).returncode
    except (OSError, ValueError) as error:
        raise UserError(
            f"{LAUNCHER} is {launcher!r}, which cannot be started ({error}); correct it or unset it"
        ) from None


def _register(stage: str) -> None:
    if stage == "train":

        @app.command(stage, help=_help(stage))
        def _(
            recipes: Annotated[
                list[str] | None, typer.Argument(help="names under `recipes` of params.yaml; all if none is given")
            ] = None,
        ) -> None:
            _run(stage, *(recipes or []))
    elif stage == "score":
        app.command(stage, help=_help(stage))(_score)
    else:

        @app.command(stage, help=_help(stage))
        def _() -> None:
            _run(stage)


def _score(
    outputs: Annotated[
        Path | None,
        typer.Option(
            help="score these instead of data/outputs: a model's folder, or RECIPE/s<seed> folders", parser=_path
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="with --outputs: folder of the tables [default: OUTPUTS-metrics]")
    ] = None,
    detectors: Annotated[
        str | None, typer.Option(help="with --outputs: names of detectors, separated by commas")
    ] = None,
    force: Force = False,
) -> None:
    if outputs is None:
        if to or detectors or force:
            raise UserError("score: --to, --detectors and --force are for --outputs; name the folder of the outputs")
        return _run("score")
    from pipeline.score import score_external

    place = Path(os.path.abspath(outputs))  # noqa: PTH100  without `..`, but not beside what a link leads to
    # nobody typed the path of the tables beside the outputs, so those of an earlier run are replaced
    target, force = (to, force) if to else (place.with_name(f"{place.name}-metrics"), True)
    score_external(place, target, detectors.split(",") if detectors else None, force)
    typer.echo(f"{target}: headline.json, summary.json and the other tables, see docs/evaluation.md")


for _stage in STAGES:
    _register(_stage)


@app.command()
def check() -> None:
    """Check the whole of params.yaml and report every problem with its line."""
    from pipeline.settings.check import check as check_params

    check_params()
    typer.echo("params.yaml: no problem found")


@app.command()
def tables(
    pages: Annotated[list[Path], typer.Argument(help="Markdown pages with `<!-- table NAME -->` ... `<!-- end -->`")],
) -> None:
    """Write the results' tables into pages, in place of those between their markers."""
    from pipeline.reporting.pages import fill
    from pipeline.reporting.results import Results, named_tables
    from pipeline.runtime.files import atomic_write

    found = list(named_tables(Results()))
    for page in pages:
        try:
            text = page.read_text(encoding="utf-8")
            filled = fill(text, found)
        except (OSError, ValueError) as error:
            raise UserError(f"{page}: cannot be read ({error}); name a Markdown page") from None
        except UserError as error:
            raise UserError(f"{page}: {error}") from None
        with atomic_write(page) as partial:
            partial.write_text(filled, encoding="utf-8")
        typer.echo(f"{page}: {'unchanged' if filled == text else 'written anew'}")


@app.command()
def preset(
    name: Annotated[str, typer.Argument(help=", ".join(PRESETS))],
    force: Annotated[bool, typer.Option(help="overwrite a params.yaml that was edited")] = False,
) -> None:
    """Write params.yaml from a preset."""
    if name not in PRESETS:
        raise UserError(f"preset {name!r}: unknown; expected one of {', '.join(PRESETS)}")
    from pipeline.presets import compose
    from pipeline.runtime.files import atomic_write

    target = Path("params.yaml")
    content = target.read_text(encoding="utf-8", errors="replace") if target.is_file() else None
    if not force and content is not None and content not in map(compose, PRESETS):
        raise UserError(f"{target}: was edited; keep a copy and run again with --force to overwrite it")
    with atomic_write(target) as path:
        path.write_text(compose(name), encoding="utf-8")
    typer.echo(f"{target}: preset {name}; now run `dvc repro`")


Model = Annotated[
    str | None,
    typer.Option(
        help="a model's folder, or its id on the Hugging Face Hub; otherwise `shipped` of params.yaml", parser=_at_home
    ),
]
Revision = Annotated[str | None, typer.Option(help="the 40-digit commit of a model from the Hub")]


def _shipped() -> str:
    """The folder of the classifier that is used where none is named: the shipped recipe's, of the first seed."""
    from pipeline.runtime.layout import CLASSIFIERS
    from pipeline.settings import params

    if not params.PARAMS.is_file():
        raise UserError("no params.yaml here that says which classifier is meant; name one with --model")
    return str(CLASSIFIERS / params.read("shipped", str) / f"s{params.read('train.seeds', list[int])[0]}")


@app.command()
def predict(
    paths: Annotated[list[str], typer.Argument(help="image files, folders or globs", parser=_at_home)],
    model: Model = None,
    revision: Revision = None,
    batch: Annotated[int, typer.Option(min=1, help="images per batch")] = 64,
    json: Annotated[bool, typer.Option("--json", help="print one JSON object per line")] = False,
    parquet: Annotated[Path | None, typer.Option(help="write a parquet file instead of printing")] = None,
    force: Force = False,
) -> None:
    """Print the class of each image, its probability, the OOD score, and whether the image is known.

    An image is unknown if its score is above the model's threshold. Images that cannot be read are named and skipped,
    and the exit status is then 1. In folders, hidden files are ignored, and files that are not images by their suffix
    are counted.
    """
    from pipeline.runtime.console import track
    from pipeline.runtime.destination import destination
    from pipeline.serving import open_set
    from pipeline.serving import predict as serving
    from pipeline.sources.walk import CLOSED

    inputs, model = [Path(path) for path in paths], model or _shipped()
    target = destination(parquet, serving.PREDICTIONS, [*inputs, Path(model)], force) if parquet else None
    found = serving.find(paths)
    if found.left_out:
        typer.echo(f"left out {found.summary()}", err=True)
    rows = serving.predict(open_set.load(model, revision), found.images, batch)
    if target is not None:
        rows = track(serving.write_parquet(rows, target, batch), "predict", len(found.images))
    elif not json:
        typer.echo(serving.HEADER)
    skipped = 0
    for row in rows:
        skipped += "error" in row
        if target is None or "error" in row:
            typer.echo(serving.line(row, json and target is None), err="error" in row and not json)
    if closed := found.left_out.get(CLOSED):
        raise UserError(f"{len(closed)} folders could not be opened: {', '.join(closed[:3])}; check their permissions")
    if skipped:
        raise UserError(f"{skipped} of {len(found.images)} files were skipped; their reasons are above")


@app.command()
def export(
    to: Annotated[Path, typer.Argument(help="the ONNX file to write")],
    model: Model = None,
    revision: Revision = None,
    force: Force = False,
) -> None:
    """Write a trained model as one ONNX graph, from photograph to verdict, and check it with onnxruntime."""
    from pipeline.runtime.destination import destination
    from pipeline.serving import open_set
    from pipeline.serving.export import CLASSIFIER, check_packages
    from pipeline.serving.export import export as write

    check_packages()
    model = model or _shipped()
    target = destination(to, CLASSIFIER, [Path(model)], force)
    difference = write(open_set.load(model, revision), target)
    typer.echo(f"{to}: agrees with the model within {difference:.1g}")


@app.command("push")
def push_model(
    repository: Annotated[str, typer.Argument(help="owner/name on the Hugging Face Hub")], model: Model = None
) -> None:
    """Upload a trained model to the Hugging Face Hub and print the commit to pin."""
    from pipeline.artifacts.models import push as upload

    typer.echo(f"{repository}: commit {upload(Path(model or _shipped()), repository)}")


sharing = typer.Typer(help="Verify, show, merge, upload and download outlier datasets.", no_args_is_help=True)
app.add_typer(sharing, name="outliers")
Dataset = Annotated[Path, typer.Argument(help="folder of an outlier dataset", parser=_path)]


@sharing.command()
def verify(folder: Dataset) -> None:
    """Check schema, checksums and counts, and decode every sample; the exit status is 1 if anything is wrong."""
    from pipeline.artifacts.sharing import check

    about = check(folder)
    count = sum(shard["samples"] for shard in about["shards"])
    typer.echo(f"{folder}: {count} samples in {len(about['shards'])} shards hold")


@sharing.command()
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


@sharing.command()
def merge(
    folders: Annotated[
        list[Path], typer.Argument(help="two or more outlier datasets of the same ID classes", parser=_path)
    ],
    to: Annotated[Path, typer.Option(help="folder of the result")],
    per_shard: Annotated[int, typer.Option(min=1, help="samples per shard of the result")] = 1000,
    force: Force = False,
) -> None:
    """Merge outlier datasets into one."""
    from pipeline.artifacts.sharing import merge as merge_datasets

    about = merge_datasets(folders, to, per_shard, force)
    typer.echo(f"{to}: " + ", ".join(f"{method} {counts['packed']}" for method, counts in about["methods"].items()))


@sharing.command()
def push(
    folder: Dataset, repository: Annotated[str, typer.Argument(help="owner/name on the Hugging Face Hub")]
) -> None:
    """Upload a dataset to the Hugging Face Hub and print the commit to pin."""
    from pipeline.artifacts.sharing import push as upload

    typer.echo(f"{repository}: commit {upload(folder, repository)}")


@sharing.command()
def pull(
    repository: Annotated[str, typer.Argument(help="owner/name on the Hugging Face Hub")],
    revision: Annotated[str, typer.Option(help="the 40-digit commit to download")],
    to: Annotated[Path, typer.Option(help="folder of the result")],
    force: Force = False,
) -> None:
    """Download a dataset at a pinned commit and verify it."""
    from pipeline.artifacts.sharing import pull as download

    about = download(repository, revision, to, force)
    typer.echo(f"{to}: {', '.join(about['methods'])}; set train.outliers to it, then `dvc repro report`")


def main() -> None:
    """Run the command line; a user's error is one line and exit status 1."""
    for stream in (sys.stdout, sys.stderr):  # a file's name may be no Unicode, and a terminal may lack a letter
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
