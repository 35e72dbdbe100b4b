"""Coverage-guided fuzzing with atheris of what reads strangers' bytes: `python -m tests.fuzz shards -runs=20000`.

It starts from sound files. Anything but a `UserError` is a finding: atheris prints the bytes that led to it and stops.
`pip install atheris` first.
"""

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris
import numpy as np
from PIL import Image

with atheris.instrument_imports(include=["pipeline"]):
    from pipeline.artifacts import outliers
    from pipeline.artifacts.codec import decode, formats
    from pipeline.runtime.errors import UserError
    from pipeline.settings import check

PRESET = Path(check.__file__).parent / "presets/digits.yaml"
SHARD = "outliers-noise-000000.tar"
ABOUT = {"shards": [{"name": SHARD}], "id": {"classes": ["a", "b"]}}
FIELDS = {
    "method": "noise", "label": -1, "parent_a": 0, "parent_b": 1, "strength": 0.5, "source": "", "candidate": 0,
    "distance": 1.0, "confidence": 0.5, "seed": 0,
}  # fmt: skip


def image(data: bytes) -> None:
    """One image file."""
    decode(data, "image", convert=True, upright=True)


def shards(data: bytes) -> None:
    """One shard."""
    Path(SHARD).write_bytes(data)
    for name, sample in outliers.read(Path(), ABOUT):
        outliers.latent_of(sample, name)
        decode(sample.image, name)


def settings(data: bytes) -> None:
    """A whole params.yaml."""
    Path("params.yaml").write_bytes(data)
    check.check_params()


TARGETS: dict[str, Callable[[bytes], None]] = {one.__name__: one for one in (image, shards, settings)}


def seeds(folder: Path) -> None:
    """Sound files of every kind to start from, of all targets in one folder."""
    folder.mkdir()
    pixels = np.arange(192, dtype=np.uint8).reshape(3, 8, 8)
    for kind in formats():
        buffer = io.BytesIO()
        Image.fromarray(np.moveaxis(pixels, 0, -1)).save(buffer, kind)
        (folder / kind).write_bytes(buffer.getvalue())
    sample = outliers.encode_sample(pixels, np.zeros((4, 2, 2), np.float32), FIELDS)
    outliers.pack(folder, "outliers", {"noise": 1}, lambda _, i: sample, 1)
    shutil.copy(PRESET, folder)


def main() -> None:
    """Fuzz the target that is named; what follows are libFuzzer's options."""
    target = TARGETS[sys.argv.pop(1)]
    os.chdir(tempfile.mkdtemp())
    seeds(Path("seeds"))

    def harmless(data: bytes) -> None:
        with suppress(UserError):
            target(data)

    atheris.Setup([*sys.argv, "seeds"], harmless)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
