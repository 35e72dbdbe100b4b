"""Source `digits`: real images that ship inside scikit-learn and scikit-image, nothing to download.

ID: six classes of scikit-learn's handwritten digits. Near-OOD: the other four classes, two for testing and
two for choices. Far-OOD: grey patches of photographs, one set a photograph, others for choices than for
testing. The classes were fixed before any result was seen and differ from those the settings were found on.
"""

import io
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from pipeline.artifacts.codec import encode_png
from pipeline.artifacts.roles import OOD_LABEL, Role
from pipeline.runtime.errors import UserError
from pipeline.sources.collection import Collection, Item, OODSet
from pipeline.sources.copies import different
from pipeline.sources.splits import three_ways

ID_DIGITS = (0, 2, 3, 5, 7, 9)
NEAR_DIGITS: dict[Role, tuple[int, int]] = {"near": (4, 8), "val-near": (1, 6)}
PHOTOGRAPHS: dict[Role, dict[str, str]] = {
    "far": {
        "brick": "brick.png",
        "coins": "coins.png",
        "faces": "lfw_subset.npy",
        "grass": "grass.png",
        "gravel": "gravel.png",
        "page": "page.png",
        "flower": "flower.jpg",
    },
    "val-far": {
        "astronaut": "astronaut.png",
        "cat": "chelsea.png",
        "china": "china.jpg",
        "coffee": "coffee.png",
        "moon": "moon.png",
    },
}
PATCH = 32  # pixels
PATCHES_PER_SET = 200
VAL, TEST, SEED = 0.15, 0.25, 0  # of the splits: they belong to the benchmark, so that numbers can be compared
FACES = 100  # the first 100 images of lfw_subset.npy are faces, the others are not
BLANK = 4.0  # grey levels: a patch whose standard deviation is below is sky or paper, not a picture


def load() -> Collection:
    """All images of the source, as 8x8 digits and 32x32 patches, 8-bit grey PNG."""
    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)  # scikit-learn counts 0..16
    of_class = {
        digit: [_item(f"digit-{digit}-{i:04d}", grey[i]) for i in np.flatnonzero(digits.target == digit)]
        for digit in range(10)
    }
    ood = {
        f"digit-{digit}": OODSet(role, of_class[digit]) for role, members in NEAR_DIGITS.items() for digit in members
    }
    for role, photographs in PHOTOGRAPHS.items():
        for name, file in photographs.items():
            ood[name] = OODSet(role, list(_patches(name, file)), one_photograph=not file.endswith(".npy"))
    classes = [str(digit) for digit in ID_DIGITS]
    labelled = [replace(item, label=label) for label, digit in enumerate(ID_DIGITS) for item in of_class[digit]]
    return Collection(classes, three_ways(classes, different(labelled), VAL, TEST, SEED), ood)


def _item(key: str, grey: np.ndarray) -> Item:
    return Item(key, OOD_LABEL, lambda: encode_png(grey[None]))


def _patches(name: str, file: str) -> Iterator[Item]:
    """Up to `PATCHES_PER_SET` patches, evenly spread over the photograph, blank ones left out."""
    patches = [patch for patch in _tiles(file) if patch.std() >= BLANK]
    chosen = np.linspace(0, len(patches) - 1, min(len(patches), PATCHES_PER_SET)).astype(int)
    for i in chosen:
        yield _item(f"{name}-{i:04d}", patches[i])


def _tiles(file: str) -> list[np.ndarray]:
    if file.endswith(".npy"):
        faces = np.load(_inside_skimage(file), allow_pickle=False)[:FACES]  # (100, 25, 25), 0..1
        images = [Image.fromarray(np.round(face * 255).astype(np.uint8)) for face in faces]
        return [np.asarray(image.resize((PATCH, PATCH), Image.Resampling.BILINEAR)) for image in images]
    grey = np.asarray(_photograph(file).convert("L"))
    return [
        grey[top : top + PATCH, left : left + PATCH]
        for top in range(0, grey.shape[0] - PATCH + 1, PATCH)
        for left in range(0, grey.shape[1] - PATCH + 1, PATCH)
    ]


def _photograph(file: str) -> Image.Image:
    if file in ("china.jpg", "flower.jpg"):
        return Image.fromarray(load_sample_image(file))
    return Image.open(io.BytesIO(_inside_skimage(file).read_bytes()))


def _inside_skimage(file: str) -> Path:
    """A data file inside the scikit-image package, found without importing the package."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise UserError("scikit-image is not installed; run `pip install -c constraints.txt -e .`")
    return Path(spec.origin).parent / "data" / file
