"""Draw the pictures of the documentation from a finished demo: `python docs/figures.py`, after `dvc repro`."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from torch import Tensor

from pipeline.artifacts.codec import decode
from pipeline.artifacts.outliers import read, verify
from pipeline.methods.boundary_crossing import Settings, cross
from pipeline.runtime.layout import CONTROLS, METRICS_DIR, OUTLIERS
from pipeline.sample import Inputs

PLACE = Path(__file__).parent
STEPS = range(11)  # of a tenth of a standard deviation each
KINDS = {
    "id": ("ID: digits it knows", "#2563eb"),
    "near": ("near OOD: digits 4 and 8", "#c2410c"),
    "far": ("far OOD: photographs, faces", "#6b7280"),
}
SHOWN = 14  # images of a method


def crossing(inputs: Inputs, row: int) -> tuple[Tensor, Tensor]:
    """An ID image on its way over the boundary: images of every step, in 0..1, and the teacher's probabilities."""
    latents, teacher = inputs.latents, inputs.teacher
    start, label, scale = latents.mean[row : row + 1], latents.labels[row : row + 1], latents.mean.std(dim=0)

    def images(vectors: Tensor) -> Tensor:
        return ((inputs.decode_images(vectors) + 1) / 2).clamp(0, 1)

    def after(steps: int) -> Tensor:
        if not steps:
            return start
        settings = Settings(count=1, sigma=0.0, step_size=0.1, max_steps=steps, extra_steps=steps, batch=1)
        return cross(start, label, scale, lambda vectors: teacher(images(vectors))[0].float(), settings)

    path = torch.cat([after(steps) for steps in STEPS]).detach()
    with torch.no_grad():
        shown = images(path)
        return shown, teacher(shown)[0].softmax(dim=1)


def draw_crossing(path: Path, classes: int = 3) -> None:
    """One image of each of some classes, a row each; below every step the teacher's first choice."""
    inputs = Inputs()
    names, labels = inputs.images.classes, inputs.latents.labels
    figure, axes = plt.subplots(classes, len(STEPS), figsize=(11, 1.25 * classes), layout="constrained")
    for own, line in enumerate(axes):
        images, probabilities = crossing(inputs, int((labels == own).nonzero()[0]))
        for axis, image, shares in zip(line, images, probabilities, strict=True):
            axis.imshow(image[0], cmap="gray", vmin=0, vmax=1)
            axis.axis("off")
            best = int(shares.argmax())
            colour = "black" if best == own else "#c2410c"
            axis.set_title(f"{names[best]}: {float(shares[best]):.0%}", fontsize=8, color=colour)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def draw_methods(path: Path) -> None:
    """The first packed images of every method and control, a row each."""
    rows: dict[str, list[np.ndarray]] = {}
    for folder in (OUTLIERS, CONTROLS):
        for name, sample in read(folder, verify(folder)):
            own = rows.setdefault(sample.fields["method"], [])
            if len(own) < SHOWN:
                own.append(decode(sample.image, name))
    figure, axes = plt.subplots(len(rows), SHOWN, figsize=(11, 0.85 * len(rows)), layout="constrained")
    for line, (method, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            axis.imshow(image[0], cmap="gray", vmin=0, vmax=255)
            axis.axis("off")
        line[0].set_title(method, loc="left", fontsize=9)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def draw_scores(path: Path, recipe: str = "penumbra", detector: str = "own") -> None:
    """How a classifier scores images of its classes, of other digits, and of photographs."""
    scores = pd.read_parquet(METRICS_DIR / "scores.parquet")
    own = scores[(scores["recipe"] == recipe) & (scores["set"] != "val")]
    figure, axis = plt.subplots(figsize=(7, 2.6), layout="constrained")
    bins = np.linspace(own[detector].min(), own[detector].max(), 60)
    for role, (title, colour) in KINDS.items():
        shown = own.loc[own["role"] == role, detector]
        axis.hist(shown, bins=bins, density=True, alpha=0.6, color=colour, label=title)
    axis.set_xlabel("score, larger is more unknown")
    axis.set_yticks([])
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    draw_crossing(PLACE / "crossing.png")
    draw_methods(PLACE / "methods.png")
    draw_scores(PLACE / "scores.png")
