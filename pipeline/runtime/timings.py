"""What each stage cost, kept beside the artefacts and out of DVC's sight: seconds differ, outputs must not."""

import resource
import sys

from pipeline.runtime.files import read_json, write_json
from pipeline.runtime.layout import TIMINGS


def record(stage: str, seconds: float) -> None:
    """Note a stage's seconds and the peak resident memory of its process in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    mebibytes = peak / 2**20 if sys.platform == "darwin" else peak / 2**10
    TIMINGS.mkdir(parents=True, exist_ok=True)
    write_json(TIMINGS / f"{stage}.json", {"seconds": round(seconds, 2), "peak_mib": round(mebibytes)})


def load() -> dict[str, dict[str, float]]:
    """Costs by stage name, of the stages that ran in this checkout; empty where none did."""
    return {path.stem: read_json(path) for path in sorted(TIMINGS.glob("*.json"))}
