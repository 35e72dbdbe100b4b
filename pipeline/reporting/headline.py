"""What a run says, in one sentence."""

from collections.abc import Iterator
from typing import Any

from pipeline.reporting import tables
from pipeline.reporting.tables import GROUPS, Found

WORDS = {"better": "better than", "worse": "worse than", "no difference": "no different from"}


def headline(row: Found, detector: str, reference: str, held_out: dict[str, Any] | None) -> str:
    """What a recipe is worth: by a detector on the test sets, else on classes that it was never shown.

    Args:
        row: of `tables.results`.
        reference: the recipe that it was compared with.
        held_out: of `metrics/hold_out.json`; None where no class was kept aside.
    """
    found = list(_groups(row, reference))
    accuracy = f"{row['accuracy']['mean']:.1f} % of the ID test images are classified correctly"
    if found:
        return f"{row['recipe']} tells {' and '.join(found)}, by {detector}; {accuracy}."
    if held_out is not None:
        return (
            f"Of classes that it was never shown {row['recipe']} notices {held_out['noticed']['mean']:.0f} % of the "
            f"images, with {held_out['false_alarms']['mean']:.1f} % false alarms; {accuracy}."
        )
    return f"No OOD test set was given, so nobody knows what {row['recipe']} notices; {accuracy}."


def _groups(row: Found, reference: str) -> Iterator[str]:
    for group, cell in zip(GROUPS, row["cells"][:: len(tables.SHOWN)], strict=True):
        if (value := cell["value"]) is not None:
            said = f"{group} OOD from ID images at an AUROC of {value['mean']:.1f} %"
            if (difference := cell["difference"]) is not None:
                said += f" ({WORDS[difference['verdict']]} {reference}, {difference['delta']:+.1f})"
            yield said
