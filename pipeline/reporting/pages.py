"""The results' tables inside other pages: documentation that is regenerated, not pasted.

`<!-- table NAME -->` or `<!-- table NAME rows=FIRST,SECOND -->` begins a table, `<!-- end -->` ends it. A page with
tables of several runs says of which: `<!-- table NAME run=RUN -->`.
"""

import re
from collections.abc import Iterable

import pandas as pd

from pipeline.reporting import tables
from pipeline.reporting.results import Table
from pipeline.runtime.errors import UserError, like

PLACE = re.compile(
    r"(<!-- table (?P<name>\S+)(?: run=(?P<run>\S+))?(?: rows=(?P<rows>\S+))? -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)


def fill(text: str, found: Iterable[Table], run: str | None = None) -> str:
    """A page's text with the tables at its markers.

    Args:
        run: the run whose tables they are; markers of other runs are left alone.

    Raises:
        UserError: there is no marker, no such table, or a row that it lacks.
    """
    frames = {table.name: table.frame for table in found}
    marker = f"<!-- table NAME{f' run={run}' if run else ''} -->"
    if all(place["run"] != run for place in PLACE.finditer(text)):
        raise UserError(f"no `{marker}` ... `<!-- end -->`; add one where a table belongs")

    def at(place: re.Match[str]) -> str:
        name, rows = place["name"], place["rows"]
        if place["run"] != run:
            return place[0]
        if name not in frames:
            known = ", ".join(frames)
            raise UserError(f"no table {name!r}{like(name, list(frames))}; expected one of {known}")
        frame = chosen(frames[name], rows.split(",")) if rows else frames[name]
        return f"{place[1]}{tables.markdown(frame)}\n{place['end']}"

    return PLACE.sub(at, text)


def chosen(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The rows of a table whose first column is one of these names, in this order.

    Raises:
        UserError: there is no such row.
    """
    rows = {row[0]: row for row in frame.to_numpy().tolist()}
    if missing := [name for name in names if name not in rows]:
        raise UserError(f"no row {missing[0]!r}{like(missing[0], list(rows))}; expected some of {', '.join(rows)}")
    return pd.DataFrame([rows[name] for name in names], columns=frame.columns)
