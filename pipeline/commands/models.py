"""`penumbra predict`, `export`, `serve` and `push`: what is done with a trained model."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.options import Force, at_home
from pipeline.runtime.errors import UserError

if TYPE_CHECKING:
    from pipeline.serving.page import Neighbours

Model = Annotated[
    str | None,
    typer.Option(
        help="a model's folder, or its id on the Hugging Face Hub; otherwise `shipped` of params.yaml", parser=at_home
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


def predict(
    paths: Annotated[list[str], typer.Argument(help="image files, folders or globs", parser=at_home)],
    model: Model = None,
    revision: Revision = None,
    batch: Annotated[int, typer.Option(min=1, help="most images of a batch")] = 64,
    false_alarms: Annotated[
        float | None, typer.Option(help="share of known images that may be called unknown, above 0 and below 1")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print one JSON object per line")] = False,
    parquet: Annotated[Path | None, typer.Option(help="write a parquet file instead of printing")] = None,
    html: Annotated[Path | None, typer.Option(help="write a page with the photographs instead of printing")] = None,
    force: Force = False,
) -> None:
    """Print the class of each image, its probability, the OOD score, its p-value, and whether the image is known.

    The p-value is the share of ID validation images that score at least as high; an image is unknown if it is at most
    --false-alarms (otherwise the model's own rate, 0.05). The last line says whether more are than chance would make
    of known images. Images that cannot be read are named and skipped, and the exit status is then 1. In folders, hidden
    files are ignored, and files that are not images by their suffix are counted.
    """
    from pipeline.runtime.console import track
    from pipeline.runtime.destination import destination
    from pipeline.serving import expected, open_set, page
    from pipeline.serving import predict as serving
    from pipeline.sources.walk import CLOSED

    if false_alarms is not None and not 0 < false_alarms < 1:
        raise UserError(f"--false-alarms {false_alarms}: expected a share above 0 and below 1, such as 0.01")
    inputs, model = [Path(path) for path in paths], model or _shipped()
    target = destination(parquet, serving.PREDICTIONS, [*inputs, Path(model)], force) if parquet else None
    page_target = destination(html, page.PAGE, [*inputs, Path(model)], force) if html else None
    found = serving.find(paths)
    if found.left_out:
        typer.echo(f"left out {found.summary()}", err=True)
    classifier = open_set.load(model, revision)
    rate = false_alarms or classifier.settings.false_alarms
    if (validation := classifier.validation) < (needed := expected.fewest(rate)):
        problem = f"{validation} ID validation images, {needed} are needed"
        typer.echo(f"false alarms {rate:g}: no image can be called unknown: {problem}", err=True)
    neighbours = _neighbours(model, classifier.classifier.classes) if html else None
    rows = serving.predict(classifier, found.images, batch, rate, neighbours.of if neighbours else None)
    shown: list[dict[str, Any]] = []
    if page_target is not None:
        rows = page.collect(rows, shown)
    if target is not None:
        rows = serving.write_parquet(rows, target, batch)
    if quiet := target is not None or page_target is not None:
        rows = track(rows, "predict", len(found.images))
    skipped, unknown = _show(rows, quiet, json)
    if page_target is not None:
        page.write(page_target, page.render("page.html.j2", shown, classifier, neighbours, rate, skipped))
    if judged := len(found.images) - skipped:
        typer.echo(expected.summary(unknown, judged, validation, rate), err=True)
    if closed := found.left_out.get(CLOSED):
        raise UserError(f"{len(closed)} folders could not be opened: {', '.join(closed[:3])}; check their permissions")
    if skipped:
        raise UserError(f"{skipped} of {len(found.images)} files were skipped; their reasons are above")


def _show(rows: Iterable[dict[str, Any]], quiet: bool, json: bool) -> tuple[int, int]:
    """Print what is said of each image, or, quiet, of unreadable ones; returns how many were unreadable and unknown."""
    from pipeline.serving.predict import HEADER, line

    skipped = unknown = 0
    if not quiet and not json:
        typer.echo(HEADER)
    for row in rows:
        skipped += "error" in row
        unknown += row.get("verdict") == "unknown"
        if not quiet or "error" in row:
            typer.echo(line(row, json and not quiet), err="error" in row and not json)
    return skipped, unknown


def _neighbours(model: str, classes: list[str]) -> "Neighbours | None":
    """The training images of a model of this project, to show those that are most like an image; None of another."""
    from pipeline.runtime.layout import CLASSIFIERS, IMAGES, OUTPUTS
    from pipeline.serving.page import Neighbours

    try:
        outputs = OUTPUTS / Path(model).resolve().relative_to(CLASSIFIERS.resolve()) / "train.parquet"
    except ValueError:
        return None
    pictures = IMAGES / "train.parquet"
    return Neighbours(outputs, pictures, classes) if outputs.is_file() and pictures.is_file() else None


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


def serve(
    model: Model = None,
    revision: Revision = None,
    host: Annotated[str, typer.Option(help="address to listen at; 0.0.0.0 lets others in")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
) -> None:
    """Serve a page to drop photographs on, and its API for programs (pip install 'penumbra[serve]')."""
    from pipeline.serving import demo, open_set

    demo.check_package()
    model = model or _shipped()
    classifier = open_set.load(model, revision)
    typer.echo(f"http://{host}:{port}: stop with Ctrl+C")
    demo.serve(classifier, _neighbours(model, classifier.classifier.classes), host, port)


def push(
    repository: Annotated[str, typer.Argument(help="owner/name on the Hugging Face Hub")], model: Model = None
) -> None:
    """Upload a trained model to the Hugging Face Hub and print the commit to pin."""
    from pipeline.hub.models import push as upload

    typer.echo(f"{repository}: commit {upload(Path(model or _shipped()), repository)}")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (predict, export, serve, push):
        app.command()(command)
