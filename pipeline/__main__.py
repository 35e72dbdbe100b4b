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
from pipeline.commands import models, results
from pipeline.commands.options import Force, as_path
from pipeline.commands.outliers import outliers
from pipeline.runtime.errors import UserError

SHARED = ("encode", "teacher", "diffusion", "sample", "shards", "features", "train", "infer")
# The variable of the environment that says how to start the shared stages. It is not in params.yaml: where a stage runs
# is no part of what it computes, and DVC need not run it again.
LAUNCHER = "PENUMBRA_LAUNCHER"
PRESETS = sorted(
    item.name.removesuffix(".yaml") for item in (files("pipeline") / "presets").iterdir() if item.name.endswith(".yaml")
)


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
    from pipeline.runtime.files import make_nothing, stage_lock
    from pipeline.settings.needs import NEEDED, is_needed

    start, name = time.monotonic(), "+".join([stage, *arguments])
    if processes.count() > 1 and stage not in SHARED:
        raise UserError(
            f"{stage}: started as {processes.count()} processes, but runs as one; start it without launcher"
        )
    processes.join()
    with stage_lock(name) if processes.is_first() else nullcontext():
        if is_needed(stage):
            importlib.import_module(f"pipeline.{stage}").main(*arguments)
        else:  # without the second that its imports take
            make_nothing(NEEDED[stage][1], f"{stage}: nothing that params.yaml names needs it")
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
            help="score these instead of data/outputs: a model's folder, or RECIPE/s<seed> folders", parser=as_path
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
    from pipeline.settings.check import check_params

    check_params()
    typer.echo("params.yaml: no problem found")


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


models.register(app)
results.register(app)
app.add_typer(outliers, name="outliers")


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
