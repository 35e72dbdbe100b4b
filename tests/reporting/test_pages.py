"""Tables between the markers of a page."""

import pandas as pd
import pytest

from pipeline.reporting.pages import fill
from pipeline.reporting.results import Table
from pipeline.runtime.errors import UserError

FRAME = pd.DataFrame([["baseline", "98.5"], ["noise", "98.3"], ["penumbra", "99.1"]], columns=["recipe", "near"])
FOUND = [Table("results-own", "Results.", FRAME), Table("costs", "Costs.", FRAME[:1])]
PAGE = """Before.

<!-- table results-own -->
anything, on
several lines
<!-- end -->

Between. <!-- a remark -->

<!-- table results-own rows=penumbra,baseline -->
<!-- end -->
After.
"""


def test_tables_take_the_place_of_what_is_between_their_markers() -> None:
    expected = """Before.

<!-- table results-own -->
| recipe | near |
| --- | --- |
| baseline | 98.5 |
| noise | 98.3 |
| penumbra | 99.1 |
<!-- end -->

Between. <!-- a remark -->

<!-- table results-own rows=penumbra,baseline -->
| recipe | near |
| --- | --- |
| penumbra | 99.1 |
| baseline | 98.5 |
<!-- end -->
After.
"""
    assert fill(PAGE, FOUND) == expected
    assert fill(expected, FOUND) == expected


def test_tables_of_other_runs_are_left_alone() -> None:
    page = "<!-- table costs run=one -->\nold\n<!-- end -->\n<!-- table costs run=two rows=baseline -->\n<!-- end -->\n"
    found = fill(page, FOUND, "two")
    assert found.startswith("<!-- table costs run=one -->\nold\n<!-- end -->\n") and found.count("98.5") == 1
    for run in (None, "three"):
        with pytest.raises(UserError, match=f"no `<!-- table NAME{f' run={run}' if run else ''} -->`"):
            fill(page, FOUND, run)


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("no marker", "no `<!-- table NAME -->`"),
        (
            "<!-- table result-own -->\n<!-- end -->\n",
            "no table 'result-own', did you mean results-own",
        ),
        ("<!-- table costs rows=noise -->\n<!-- end -->\n", "no row 'noise'; expected some of baseline"),
    ],
)
def test_what_cannot_be_filled_is_refused(page: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        fill(page, FOUND)
