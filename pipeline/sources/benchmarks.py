"""The images of a benchmark, compared with its record."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pipeline.artifacts.roles import Role
from pipeline.runtime.errors import UserError
from pipeline.settings.benchmarks import Record
from pipeline.sources.collection import Collection


def load(expected: Record, root: str | None, download: bool, partial: bool) -> Collection:
    """List the images of a benchmark.

    Raises:
        UserError: images are missing, or `root` is not named.
    """
    if expected.source == "digits":
        from pipeline.sources import digits

        return digits.load()
    from pipeline.sources import openood

    if root is None or expected.benchmark is None:
        raise UserError(
            "params.yaml: prepare.root is null; set it to the folder of OpenOOD's images, or where to download"
        )
    roles: dict[str, Role] = {name: about.role for name, about in expected.sets.items() if about.role != "id"}
    return openood.load(expected.benchmark, roles, Path(root), download, partial)


def differences(expected: Record, classes: Sequence[str], counts: dict[str, int], pixels: dict[str, str]) -> list[str]:
    """What was found and is not what the record says, a sentence each.

    Args:
        classes: names of the ID classes.
        counts: images by set.
        pixels: digest of each set's pixels, labels and order.
    """
    found = []
    digest = hashlib.sha256("\n".join(classes).encode()).hexdigest()
    if expected.classes not in (None, len(classes)):
        found.append(f"{len(classes)} classes, expected {expected.classes}")
    elif expected.classes_sha256 not in (None, digest):
        found.append(f"classes {', '.join(classes[:3])}, ... are not the benchmark's")
    for name, about in expected.sets.items():
        if about.count not in (None, counts.get(name, 0)):
            found.append(f"{name}: {counts.get(name, 0)} images, expected {about.count}")
        elif about.pixels not in (None, pixels.get(name)):
            found.append(f"{name}: other images than the benchmark's, by sha256 {pixels.get(name, '')[:12]}")
    if expected.sets and (extra := set(counts) - set(expected.sets)):
        found.append(f"sets that the benchmark has not: {', '.join(sorted(extra))}")
    return found
