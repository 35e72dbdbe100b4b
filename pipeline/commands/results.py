"""`penumbra tables` and `pool`: what is done with the tables of a run."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.runtime.errors import UserError


def tables(
    pages: Annotated[list[Path], typer.Argument(help="Markdown pages with `<!-- table NAME -->` ... `<!-- end -->`")],
    run: Annotated[
        str | None, typer.Option(help="fill the markers `<!-- table NAME run=RUN -->`, of a page about several runs")
    ] = None,
) -> None:
    """Write the results' tables into pages, in place of those between their markers."""
    from pipeline.reporting.pages import fill
    from pipeline.reporting.results import at_hand
    from pipeline.runtime.files import atomic_write

    found = list(at_hand())
    for page in pages:
        try:
            text = page.read_text(encoding="utf-8")
            filled = fill(text, found, run)
        except (OSError, ValueError) as error:
            raise UserError(f"{page}: cannot be read ({error}); name a Markdown page") from None
        except UserError as error:
            raise UserError(f"{page}: {error}") from None
        with atomic_write(page) as partial:
            partial.write_text(filled, encoding="utf-8")
        typer.echo(f"{page}: {'unchanged' if filled == text else 'written anew'}")


def pool(
    runs: Annotated[list[Path], typer.Argument(help="folders of tables: copies of `metrics` of runs of other `seed`s")],
    against: Annotated[str, typer.Option(help="the recipe that the others are compared with")] = "baseline",
    resamples: Annotated[int, typer.Option(min=2, help="of the test images")] = 1000,
) -> None:
    """Print the results of several whole runs, with intervals that hold for another run.

    The seeds of one run share its outliers, teacher and generators; runs that differ in `seed` of params.yaml share
    nothing but the images.
    """
    from pipeline.reporting.pooling import pool as pooled
    from pipeline.reporting.tables import markdown

    for table in pooled(runs, resamples, against):
        typer.echo(f"{table.title}\n\n{markdown(table.frame)}\n")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (tables, pool):
        app.command()(command)
