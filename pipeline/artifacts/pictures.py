"""Pictures that go with a set of images: contact sheets and maps. The same images give the same bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

ROWS, COLUMNS = 3, 24  # images of a line of a contact sheet
GAP = 1  # pixels between images
SHOWN = 1500  # points of a map, of each kind
ID_COLOUR, OUTLIER_COLOUR = "#9aa3af", "#c2410c"


def _pyplot() -> Any:
    """matplotlib.pyplot, imported by who draws: it takes a second."""
    import matplotlib

    matplotlib.use("Agg")  # no display needed
    from matplotlib import pyplot

    return pyplot


def sheet(pixels: Tensor, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """The first images of uint8 (n, channels, h, w) as one picture, (height, width, 3), white where none."""
    shown = pixels[: rows * columns]
    colour = shown.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    height, width = colour.shape[1] + GAP, colour.shape[2] + GAP
    grid = np.full((rows * columns, height, width, 3), 255, dtype=np.uint8)
    grid[: len(shown), :-GAP, :-GAP] = colour
    return grid.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)


def contact_sheet(path: Any, lines: Sequence[Mapping[str, Tensor]], rows: int = ROWS) -> None:
    """Write a PNG: a line of blocks of images side by side for each of `lines`, title -> images.

    Args:
        path: a path or a binary file.
        rows: of images in a block.
    """
    plt = _pyplot()
    figure = plt.figure(figsize=(9, (0.25 + 0.4 * rows) * len(lines)), layout="constrained")
    for part, blocks in zip(np.atleast_1d(figure.subfigures(len(lines), 1)), lines, strict=True):
        axes = part.subplots(1, len(blocks), squeeze=False)[0]
        for axis, (title, pixels) in zip(axes, blocks.items(), strict=True):
            axis.set_title(f"{title} ({len(pixels)})", loc="left", fontsize=9)
            axis.axis("off")
            if len(pixels):
                axis.imshow(sheet(pixels, rows, COLUMNS // len(blocks)), interpolation="nearest")
    figure.savefig(path, dpi=110, format="png", metadata={"Software": None})
    plt.close(figure)


def map_of(path: Path, id_vectors: np.ndarray, groups: Mapping[str, np.ndarray]) -> None:
    """Write a PNG: the plane of the two largest principal components of ID vectors, and each group of others in it.

    Args:
        id_vectors: (n, d), ID vectors that the plane is fitted to.
        groups: title -> (m, d).
    """
    from sklearn.decomposition import PCA  # two seconds that only a map pays

    plt = _pyplot()
    plane = PCA(2, svd_solver="full").fit(id_vectors)
    figure, axes = plt.subplots(1, len(groups), figsize=(9, 9 / max(2, len(groups)) + 0.3), squeeze=False,
                                sharex=True, sharey=True, layout="constrained")  # fmt: skip
    for axis, (title, vectors) in zip(axes[0], groups.items(), strict=True):
        for own, colour, name in ((id_vectors, ID_COLOUR, "ID"), (vectors, OUTLIER_COLOUR, title)):
            points = plane.transform(own[:: max(1, len(own) // SHOWN)])
            axis.scatter(*points.T, s=5, linewidths=0, alpha=0.6, color=colour, label=name)
        axis.set_title(title, loc="left", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0, 0].legend(frameon=False, fontsize=8, markerscale=2)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
