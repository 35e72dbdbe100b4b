"""Fix the splits: check, resize, split, hash and audit the images.

Reads: a benchmark of pipeline/benchmarks, or your own images (`folder`).
Writes: data/images/{train,val,test}.parquet, data/images/ood/<set>.parquet, data/images/unknown.parquet where such
images are given, data/images/manifest.json, data/images/hold_out.json, the classes that `hold_out` keeps aside.
Why: every later stage sees the same images; nothing that is chosen on validation has seen a test image.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.artifacts import images
from pipeline.artifacts.codec import decode, encode_png, stored
from pipeline.artifacts.images import Picture, Preprocessing
from pipeline.artifacts.roles import OOD_ROLES, Role
from pipeline.runtime.console import log, track
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import atomic_write, sha256, write_json
from pipeline.runtime.layout import IMAGES
from pipeline.settings import params
from pipeline.settings.benchmarks import Record, record
from pipeline.settings.prepare import PrepareSettings
from pipeline.shortcuts.sets import SetStatistics, compare, in_training
from pipeline.sources import benchmarks, folder
from pipeline.sources.collection import Collection, Item, OODSet
from pipeline.sources.hold_out import splits
from pipeline.sources.preprocess import preprocess

Statistics = dict[str, SetStatistics]  # by set


def collect(settings: PrepareSettings, seed: int) -> tuple[Record, Collection]:
    """The record of the benchmark that the settings name, and its images."""
    if settings.benchmark != "folder":
        expected = record(settings.benchmark)
        return expected, benchmarks.load(expected, settings.root, settings.download, settings.partial)
    if (own := settings.folder) is None:
        raise UserError("params.yaml: prepare.folder is null; with benchmark `folder`, describe your images there")
    form = Record(title="own images", source="folder", resize=own.resize, size=own.size, channels=own.channels)
    return form, folder.load(own, seed)


def conformed(items: list[Item], form: Record, statistics: SetStatistics, measured: bool) -> Iterator[Picture]:
    """The images as the networks see them, their statistics noted. One that has that form already keeps its bytes.

    Raises:
        UserError: unreadable, animated, or of more than 8 bits.
    """
    for item in items:
        data = item.read()
        pixels = decode(data, item.key, convert=form.source != "digits", upright=form.source == "folder")
        seen = preprocess(pixels, form.size, form.channels, form.resize)
        statistics.note(data, seen, item.label, measured)
        statistics.made_grey += len(pixels) > form.channels
        yield Picture(item.key, stored(data, seen) if seen is pixels else encode_png(seen), item.label)


def sets_of(collection: Collection) -> list[tuple[str, Role, list[Item]]]:
    """Every set: name, role, images; ID images of many row groups are not in the order of their classes."""
    splits: list[tuple[str, Role, list[Item]]] = [
        (name, "id", collection.splits[name]) for name in ("train", "val", "test")
    ]
    if collection.unknown:
        splits.append(("unknown", "unknown", collection.unknown))
    return splits + [(f"ood/{name}", own.role, own.items) for name, own in collection.ood.items()]


def write_sets(target: Path, expected: Record, collection: Collection) -> tuple[dict[str, Any], Statistics]:
    """Write every set; returns what the manifest says of it, and its statistics."""
    about: dict[str, Any] = {}
    statistics: Statistics = {}
    preprocessing = Preprocessing(expected.resize, expected.mean, expected.std)
    sets = sets_of(collection)
    total = sum(len(items) for _, _, items in sets)
    progress = track(range(total), "prepare", total)
    for name, role, items in sets:
        if not items:
            raise UserError(
                f"set {name}: no image; add images to its folder, or raise val_fraction or test_fraction of "
                "prepare.folder where it is drawn"
            )
        path, statistics[name] = target / f"{name}.parquet", SetStatistics()
        ordered = images.mixed(items) if name == "train" else items
        pictures = conformed(ordered, expected, statistics[name], measured=name != "train")
        shown = (picture for picture, _ in zip(pictures, progress, strict=False))
        images.write(path, shown, collection.classes, role, preprocessing)
        statistics[name].measure()
        about[name] = {
            "role": role, "count": len(items), "sha256": sha256(path), "pixels": statistics[name].digest,
        }  # fmt: skip
    return about, statistics


def audit(about: dict[str, Any], statistics: Statistics, expected: Record, ood: Mapping[str, OODSet]) -> None:
    """Add to what the manifest says of each set: copies of training images, and what gives an OOD set away."""
    for name, own in about.items():
        if (given := ood.get(name.removeprefix("ood/"))) and given.one_photograph:
            own["one_photograph"] = True
        if own["role"] == "id" and name != "train":
            own["in_training"] = in_training(statistics[name], statistics["train"])
        for split, roles in OOD_ROLES.items():
            if own["role"] in roles:
                own["audit"] = compare(statistics[name], statistics[split], statistics["train"])
        if (known := expected.sets.get(name.removeprefix("ood/"))) and known.excluded:
            own["excluded"] = known.excluded


def check_benchmark(
    settings: PrepareSettings, expected: Record, classes: list[str], about: dict[str, Any]
) -> list[str]:
    """What differs from the benchmark's record.

    Raises:
        UserError: something does, and `prepare.partial` is false.
    """
    counts = {name.removeprefix("ood/"): own["count"] for name, own in about.items()}
    pixels = {name.removeprefix("ood/"): own["pixels"] for name, own in about.items()}
    differing = benchmarks.differences(expected, classes, counts, pixels)
    if differing and not settings.partial:
        raise UserError(
            f"benchmark {settings.benchmark}: {'; '.join(differing)}; get the images that belong to it, or set "
            "prepare.partial to true, which then stands in every table"
        )
    return differing


def log_result(classes: list[str], about: dict[str, Any], statistics: Statistics, differing: list[str]) -> None:
    """What was prepared, and what to know of it."""
    counts = ", ".join(f"{name.removeprefix('ood/')} {own['count']}" for name, own in about.items())
    log(f"prepare: {len(classes)} classes; {counts}")
    if grey := sum(own.made_grey for own in statistics.values()):
        log(f"prepare: {grey} colour images became grey, for channels is 1")
    for name, own in about.items():
        if copies := own.get("in_training") or own.get("audit", {}).get("in_training"):
            log(f"warning: {name}: {copies} of {own['count']} images have the pixels of an ID training image")
    for difference in differing:
        log(f"warning: partial: {difference}")


def main() -> None:
    settings, seed = params.read("prepare", PrepareSettings), params.read("seed", int)
    expected, collection = collect(settings, seed)
    for note in collection.notes:
        log(f"prepare: {note}")
    own = settings.folder if settings.benchmark == "folder" else None
    kept_aside = splits(collection.classes, own.hold_out, seed) if own and own.hold_out else []  # a name may be wrong
    with atomic_write(IMAGES) as target:
        about, statistics = write_sets(target, expected, collection)
        audit(about, statistics, expected, collection.ood)
        differing = check_benchmark(settings, expected, collection.classes, about)
        manifest = {
            "benchmark": settings.benchmark, "title": expected.title, "partial": differing,
            "classes": collection.classes, "resize": expected.resize, "size": expected.size,
            "channels": expected.channels, "sets": about,
        }  # fmt: skip
        write_json(target / "manifest.json", manifest)
        if own and own.hold_out and not kept_aside:
            log(f"warning: hold_out: {len(collection.classes)} classes are too few to keep some aside; none is")
        write_json(target / "hold_out.json", kept_aside)
    log_result(collection.classes, about, statistics, differing)
