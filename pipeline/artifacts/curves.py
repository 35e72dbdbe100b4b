"""Training curves, on disk as they grow: what `dvc plots show` draws.

- `plots/metrics/TERM.tsv`: the columns `step` and TERM, one row for each row of the history.
- `metrics.json`: the last row.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipeline.runtime.files import unwritable


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(folder, error) from None


def start(folder: Path) -> None:
    """Remove the curves of an earlier run.

    Raises:
        UserError: they cannot be removed.
    """
    if (plots := folder / "plots").exists():
        with _writing(folder):
            shutil.rmtree(plots)


def add(folder: Path, row: Mapping[str, float]) -> None:
    """Append a row of the history, `step` and the value of each term.

    Raises:
        UserError: the files cannot be written.
    """
    values = dict(row)
    step = int(values.pop("step"))
    tables = folder / "plots/metrics"
    with _writing(folder):
        tables.mkdir(parents=True, exist_ok=True)
        for name, value in values.items():
            with (tables / f"{name}.tsv").open("a", encoding="utf-8") as file:
                header = "" if file.tell() else f"step\t{name}\n"
                file.write(f"{header}{step}\t{value}\n")
        last = json.dumps(values | {"step": step}, indent=4)
        (folder / "metrics.json").write_text(f"{last}\n", encoding="utf-8")
