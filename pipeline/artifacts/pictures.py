"""Contact sheets: what a set of images looks like at a glance."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from torch import Tensor

matplotlib.use("Agg")  # no display needed
import matplotlib.pyplot as plt

ROWS, COLUMNS = 3, 24  # images shown of each group
GAP = 1  # pixels between images


def sheet(pixels: Tensor, rows: int = ROWS) -> np.ndarray:
    """The first images of uint8 (n, channels, h, w) as one picture, (height, width, 3), white where none."""
    shown = pixels[: rows * COLUMNS]
    colour = shown.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    height, width = colour.shape[1] + GAP, colour.shape[2] + GAP
    grid = np.full((rows * COLUMNS, height, width, 3), 255, dtype=np.uint8)
    grid[: len(shown), :-GAP, :-GAP] = colour
    return grid.reshape(rows, COLUMNS, height, width, 3).swapaxes(1, 2).reshape(rows * height, COLUMNS * width, 3)


def contact_sheet(path: Path, groups: Mapping[str, Tensor], rows: int = ROWS) -> None:
    """Write a PNG with one titled block of images a group; the same images give the same bytes."""
    height = (0.25 + 0.4 * rows) * len(groups)
    figure, axes = plt.subplots(len(groups), 1, figsize=(9, height), squeeze=False, layout="constrained")
    for axis, (title, pixels) in zip(axes[:, 0], groups.items(), strict=True):
        axis.imshow(sheet(pixels, rows), interpolation="nearest")
        axis.set_title(f"{title} ({len(pixels)})", loc="left", fontsize=9)
        axis.axis("off")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
