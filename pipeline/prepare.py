"""Fix the splits: check, resize, split and hash the images.

Reads: a source (`digits` from installed packages, or `folder` from disk).
Writes: data/images/{train,val,test}.parquet, data/images/ood/<set>.parquet, data/images/manifest.json.
Why: every later stage sees the same images; nothing that is chosen on validation has seen a test image.
"""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from pipeline import params
from pipeline.artifacts import images
from pipeline.artifacts.files import replacing, sha256, write_json
from pipeline.artifacts.images import Picture, Role
from pipeline.artifacts.layout import IMAGES
from pipeline.console import say, track
from pipeline.errors import UserError
from pipeline.sources.collection import Collection
from pipeline.sources.preprocess import conform

Fraction = Annotated[float, Field(gt=0, lt=0.5)]
Folders = dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")], str]
MINIMUM_PER_CLASS = 10  # fewer images than this cannot be split three ways and mean anything


class Params(params.Section):
    source: Literal["digits", "folder"]
    size: Annotated[int, Field(ge=8)]
    channels: Literal[1, 3]
    val_fraction: Fraction
    test_fraction: Fraction
    id: str | None
    near: Folders
    far: Folders
    val_near: Folders
    val_far: Folders


def collect(settings: Params) -> Collection:
    """All images of the source that the settings name."""
    if settings.source == "digits":
        from pipeline.sources import digits

        return digits.load()
    from pipeline.sources import folder

    if settings.id is None:
        raise UserError("params.yaml: prepare.id is null; with source `folder`, set it to a folder of class folders")
    roles: dict[Role, Folders] = {
        "near": settings.near,
        "far": settings.far,
        "val-near": settings.val_near,
        "val-far": settings.val_far,
    }
    ood = {role: {name: Path(path) for name, path in folders.items()} for role, folders in roles.items()}
    return folder.load(Path(settings.id), ood)


def encode(picture: Picture, settings: Params) -> Picture:
    """The picture as the networks see it. One that has that form already keeps its bytes, and so its codec.

    Raises:
        UserError: unreadable, or neither 8-bit grey nor RGB, or colour where grey is asked for.
    """
    pixels = images.decode(picture.data, picture.key)
    conformed = conform(pixels, picture.key, settings.size, settings.channels)
    if conformed is pixels:
        return picture
    return Picture(picture.key, images.encode_png(conformed), picture.label)


def unique(pictures: list[Picture]) -> list[Picture]:
    """The pictures without later copies of the same bytes, which could stand on both sides of a split."""
    first = {hashlib.sha256(picture.data).digest(): picture for picture in reversed(pictures)}
    kept = set(map(id, first.values()))
    return [picture for picture in pictures if id(picture) in kept]


def split(pictures: list[Picture], settings: Params, seed: int) -> dict[str, list[Picture]]:
    """Stratified, seeded train/val/test split; each part in the order of its keys.

    Training images that do not fit into one piece of the file are shuffled: training mixes some pieces at a time, and
    each should be a fair part of the whole.
    """
    parts: dict[str, list[Picture]] = {"train": [], "val": [], "test": []}
    for label in sorted({picture.label for picture in pictures}):
        members = [picture for picture in pictures if picture.label == label]
        order = np.random.default_rng([seed, label]).permutation(len(members))
        val, test = (round(len(members) * part) for part in (settings.val_fraction, settings.test_fraction))
        for name, chosen in zip(("val", "test", "train"), np.split(order, [val, val + test]), strict=True):
            parts[name] += [members[i] for i in sorted(chosen)]
    if len(train := parts["train"]) > images.ROW_GROUP:
        parts["train"] = [train[i] for i in np.random.default_rng(seed).permutation(len(train))]
    return parts


def _check_classes(collection: Collection, pictures: list[Picture]) -> None:
    counts = Counter(picture.label for picture in pictures)
    for label, name in enumerate(collection.classes):
        if counts[label] < MINIMUM_PER_CLASS:
            raise UserError(
                f"class {name!r}: {counts[label]} different images, expected at least {MINIMUM_PER_CLASS}; "
                "add images or remove the class's folder"
            )


def main() -> None:
    settings, seed = params.read("prepare", Params), params.read("seed", int)
    collection = collect(settings)
    pictures = unique(collection.pictures)
    _check_classes(collection, pictures)
    sets: list[tuple[str, Role, list[Picture]]] = [
        (name, "id", part) for name, part in split(pictures, settings, seed).items()
    ]
    sets += [(f"ood/{name}", ood.role, ood.pictures) for name, ood in collection.ood.items()]
    manifest: dict[str, Any] = {
        "source": settings.source,
        "classes": collection.classes,
        "size": settings.size,
        "channels": settings.channels,
        "duplicates_dropped": len(collection.pictures) - len(pictures),
        "sets": {},
    }
    with replacing(IMAGES) as folder:
        for name, role, members in track(sets, "prepare", len(sets)):
            if not members:
                raise UserError(f"OOD set {name}: no image; check its folder under `prepare` in params.yaml")
            path = folder / f"{name}.parquet"
            conformed = [encode(picture, settings) for picture in members]
            images.write(path, conformed, collection.classes, role)
            manifest["sets"][name] = {"role": role, "count": len(members), "sha256": sha256(path)}
        write_json(folder / "manifest.json", manifest)
    counts = ", ".join(f"{name} {about['count']}" for name, about in manifest["sets"].items())
    say(f"prepare: {len(collection.classes)} classes; {counts}")
