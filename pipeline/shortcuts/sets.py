"""What images give away before any model sees them: their files, their colours, single statistics, copies.

A detector that is right on a set may only know its codec, its size or its sharpness.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image

from pipeline.shortcuts.audit import AT_ONCE, STATISTICS, separation

AT_A_TIME = 500  # images measured together, or fewer large ones


@dataclass
class SetStatistics:
    """What is noted of each image of a set as it passes.

    Attributes:
        digest: of all pixels, labels and their order; the same on every machine that decodes alike.
        made_grey: colour images that became grey, since the networks see one channel.
    """

    files: list[str] = field(default_factory=list)  # format and size
    pixels: list[bytes] = field(default_factory=list)  # digest of each image
    grey: list[bool] = field(default_factory=list)
    columns: dict[str, list[float]] = field(default_factory=dict)
    made_grey: int = 0
    _all: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    _waiting: list[np.ndarray] = field(default_factory=list)  # pixels not yet measured

    @property
    def digest(self) -> str:
        return self._all.hexdigest()

    def note(self, data: bytes, pixels: np.ndarray, label: int, measured: bool) -> None:
        """Note one image: the bytes of its file, and uint8 pixels (channels, size, size) as the networks see it.

        Args:
            measured: also its statistics and its file's format.
        """
        content = np.ascontiguousarray(pixels).tobytes()
        self.pixels.append(hashlib.sha256(content).digest())
        self._all.update(label.to_bytes(8, "little", signed=True) + content)
        if measured:
            with Image.open(io.BytesIO(data)) as image:
                self.files.append(f"{image.format} {image.width}x{image.height}")
            self.grey.append(bool((pixels == pixels[:1]).all()))
            self.columns.setdefault("file size", []).append(float(len(data)))
            self._waiting.append(pixels)
            if len(self._waiting) == AT_A_TIME or len(self._waiting) * pixels.size >= AT_ONCE:
                self.measure()

    def measure(self) -> None:
        """Bring the statistics up to the last image."""
        if self._waiting:
            pixels = torch.from_numpy(np.stack(self._waiting))
            for name, one in STATISTICS.items():
                self.columns.setdefault(name, []).extend(one(pixels).tolist())
            self._waiting.clear()


def in_training(own: SetStatistics, train: SetStatistics) -> int:
    """Number of images, up to copies among themselves, whose pixels an ID training image has too."""
    return len(set(own.pixels) & set(train.pixels))


def compare(own: SetStatistics, reference: SetStatistics, train: SetStatistics) -> dict[str, object]:
    """What sets an OOD set apart from an ID set without a look at what it shows.

    Returns:
        `in_training`: images whose pixels an ID training image has too; `grey`: percent of grey images, of this set
        and of the ID set; `files`: the commonest format and size of each; `statistics`: AUROC in percent, 50 to 100,
        of single numbers.
    """
    return {
        "in_training": in_training(own, train),
        "grey": [_percent(own.grey), _percent(reference.grey)],
        "files": [_commonest(own.files), _commonest(reference.files)],
        "statistics": {
            name: separation(np.array(reference.columns[name]), np.array(values))
            for name, values in own.columns.items()
        },
    }


def _percent(flags: list[bool]) -> float:
    return round(100 * sum(flags) / len(flags), 2)


def _commonest(names: Iterable[str]) -> str:
    return Counter(names).most_common(1)[0][0]
