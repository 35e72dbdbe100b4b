"""Pack the outlier dataset: decode, filter, audit, count, document.

Reads: data/candidates, data/latents, data/images, data/models/{autoencoder,teacher}.
Writes: data/outliers (shards.methods) and data/controls (noise, pixel-mixup, cut-mix with a sharp and a soft edge,
sharpened ID images, synthetic-id, decoded-id; `real`, of the near-OOD validation images, where there are some: a bound,
for who trains on it has no validation left; and decoded-test.parquet, ID test images as the decoder shows them), see
artifacts/outliers.py.
Why: this is what teams share. Equal counts of every method, so that methods can be compared.
"""

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor

from pipeline.artifacts import candidates, images, latents, models
from pipeline.artifacts.candidates import Candidates, Method
from pipeline.artifacts.codec import encode_png
from pipeline.artifacts.images import OOD_LABEL, ImageFile, Picture
from pipeline.classifier.networks import Classifier
from pipeline.runtime.console import track
from pipeline.runtime.errors import like
from pipeline.runtime.files import replacing_together, sha256
from pipeline.runtime.layout import CANDIDATES, CONTROLS, IMAGES, LATENTS, MODELS, OUTLIERS
from pipeline.runtime.processes import is_first, pick_device
from pipeline.runtime.resumable import fingerprint, parts, ranges
from pipeline.settings import params
from pipeline.shortcuts import corrections
from pipeline.synthesis import autoencoder as space
from pipeline.synthesis import controls, filters, inspection
from pipeline.synthesis.controls import Control
from pipeline.synthesis.judging import BATCH, Judge, Judged, check_fits, check_unlike_id
from pipeline.synthesis.packing import pack

Share = Annotated[float, Field(gt=0, lt=1)]
# of params.yaml, which decide the outliers
SECTIONS = ("encode", "boundary", "crossing", "embedding", "diffusion", "mixup", "shards")
JUDGED = OUTLIERS.with_name(".judged")  # parts, until the datasets are written
Draw = Callable[[range], tuple[Candidates, Tensor]]  # candidates of consecutive indices, and their images


class Params(params.Section):
    methods: Annotated[list[str], Field(min_length=1)]
    per_method: PositiveInt
    per_shard: PositiveInt
    neighbours: PositiveInt
    inside_id: Share
    confident: Share
    filters: list[str]
    max_id_like: Annotated[float, Field(ge=0, le=1)]
    licence: str

    @field_validator("methods")
    @classmethod
    def _known_cures(cls, pools: list[str]) -> list[str]:
        for pool in pools:
            corrections.check(pool)
        return pools

    @field_validator("filters")
    @classmethod
    def _known_filters(cls, names: list[str]) -> list[str]:
        known = list(filters.FILTERS)
        if unknown := [name for name in names if name not in known]:
            near = like(unknown[0], known)
            raise ValueError(f"unknown {unknown[0]!r}{near}; expected some of {', '.join(known)}")
        return names


class Shards:
    """Everything the stage reads, and the thresholds that follow from it.

    Args:
        kept: holds what was judged until the datasets are written.
    """

    def __init__(self, settings: Params, seed: int, kept: ExitStack):
        self.settings, self.seed, self.kept = settings, seed, kept
        self.train_set, self.val_set = images.load_split(IMAGES, "train"), images.load_split(IMAGES, "val")
        self.latents = {split: latents.load(LATENTS / f"{split}.arrow") for split in ("train", "val", "test")}
        device = pick_device()
        autoencoder = models.load(space.AnyAutoencoder, MODELS / "autoencoder").to(device)
        teacher = models.load(Classifier, MODELS / "teacher").to(device)
        running = params.read("encode", space.Running)
        self.judge = Judge(
            autoencoder, teacher, self.train_set, self.latents["train"].mean, settings.neighbours, running
        )
        evidence = self.judge.evidence(self.val_set.pixels, self.latents["val"].mean)
        self.limits = filters.thresholds(evidence, settings.inside_id, settings.confident)
        inputs = fingerprint(IMAGES, LATENTS, MODELS / "autoencoder", MODELS / "teacher")
        self.identity = [running.model_dump(), settings.neighbours, seed, inputs]

    @cached_property
    def decoded_val(self) -> Tensor:
        """The ID validation images as the decoder shows them."""
        return self.judge.decode(self.latents["val"].mean)

    @property
    def packing(self) -> tuple[list[str], int, int, int]:
        """What both datasets are packed with: keys of the training images, per_method, per_shard, seed."""
        return self.latents["train"].keys, self.settings.per_method, self.settings.per_shard, self.seed

    def judged(self, name: str, count: int, draw: Draw, filtered: bool = False) -> Judged:
        """The first `count` of a draw with their evidence; a killed run goes on where it was.

        Args:
            filtered: give reasons against them; controls are taken as they are.
        """
        pieces = ranges(count, BATCH)

        def make(i: int) -> dict[str, Tensor]:
            found, pixels = draw(pieces[i])
            return vars(found) | {"pixels": pixels} | vars(self.judge.evidence(pixels, found.raw_latents))

        folder = JUDGED / name
        own = fingerprint(CANDIDATES / f"{name.split('+')[0]}.arrow")  # none of most controls
        made = parts(folder, [name, count, own, self.identity], len(pieces), make, name)
        columns = self.kept.enter_context(made).whole()
        found = Candidates(**{field: columns.pop(field) for field in Candidates.__dataclass_fields__})
        pixels, evidence = columns.pop("pixels"), filters.Evidence(**columns)
        reasons = filters.reasons(evidence, self.limits, self.settings.filters) if filtered else [""] * count
        labels = found.parents[:, 0] if name in controls.ID_IMAGES else torch.full((count,), OOD_LABEL)
        return Judged(name, found, pixels, evidence, labels, reasons)

    def outliers(self) -> list[Judged]:
        """All methods, METHOD or METHOD+CURE+CURE, judged; stops where too few are accepted or they look like ID."""
        judged = []
        for name in self.settings.methods:
            method, *names = name.split("+")
            found = candidates.load(CANDIDATES / f"{method}.arrow")
            check_fits(found, self.judge, method)
            own = self.judged(name, len(found), self.cured(found, names, method), filtered=True)
            check_unlike_id(own, own.choose(self.settings.per_method), self.limits, self.settings.max_id_like)
            judged.append(own)
        return judged

    def controls(self) -> list[Judged]:
        """Controls that are outliers without a method, and two kinds of further ID images."""
        seed, encoded = self.seed, self.latents["train"]
        paths = [path for path in images.ood_sets(IMAGES) if ImageFile(path).role == "val-near"]
        real = torch.cat([images.load(path).pixels for path in paths]) if paths else None
        drawn = controls.drawn(seed, self.train_set, real)
        synthetic = candidates.load(CANDIDATES / "synthetic-id.arrow")
        decoded: dict[str, tuple[int, Method]] = {
            "synthetic-id": (len(synthetic), lambda indices: synthetic[indices.start : indices.stop]),
            "decoded-id": (self.settings.per_method, lambda indices: controls.redraw(seed, indices, encoded)),
        }
        found = [self.judged(name, self.settings.per_method, self.encoded(method)) for name, method in drawn.items()]
        return found + [self.judged(name, count, self.decoded(draw)) for name, (count, draw) in decoded.items()]

    def cured(self, found: Candidates, names: list[str], method: str) -> Draw:
        """Candidates of a method as the decoder shows them, cured."""

        def draw(indices: range) -> tuple[Candidates, Tensor]:
            part = found[indices.start : indices.stop]
            return part, self.judge.render(part, indices, names, self.seed, method)

        return draw

    def decoded(self, method: Method) -> Draw:
        """What a method draws, as the decoder shows it."""

        def draw(indices: range) -> tuple[Candidates, Tensor]:
            found = method(indices)
            return found, self.judge.decode(found.raw_latents)

        return draw

    def encoded(self, control: Control) -> Draw:
        """Images that are drawn as pixels, with the latents that the encoder gives them."""
        size = params.read("autoencoder.size", int)

        def draw(indices: range) -> tuple[Candidates, Tensor]:
            pixels, rows, strength = control(indices)
            parents = torch.where(rows >= 0, self.train_set.labels[rows], rows)
            return Candidates(self.judge.encode(pixels, size), parents, strength, rows[:, 0]), pixels

        return draw


def write_decoded_test(path: Path, source: Shards) -> None:
    """ID test images as the decoder shows them: what a classifier that learned "decoded" would flag."""
    encoded = source.latents["test"]
    rows = zip(encoded.keys, source.judge.decode(encoded.mean).numpy(), encoded.labels.tolist(), strict=True)
    shown = track(rows, "pack decoded-test", len(encoded.keys))
    pictures = (Picture(key, encode_png(pixels), label) for key, pixels, label in shown)
    images.write(path, pictures, source.train_set.classes, "decoded", ImageFile(IMAGES / "test.parquet").preprocessing)


def describe(source: Shards) -> dict[str, Any]:
    """What dataset.json says of the ID set, the decoder, the generators and the parameters that made it."""
    settings, train_set = source.settings, source.train_set
    generators = {
        name: {
            "config": sha256(MODELS / name / "config.json"),
            "weights": sha256(next((MODELS / name).glob("*.safetensors"))),
        }
        for name in ("autoencoder", "diffusion", "teacher")
        if (MODELS / name).is_dir()
    }
    return {
        "licence": settings.licence,
        "id": {
            "classes": train_set.classes,
            "count": len(train_set),
            "shape": list(train_set.pixels.shape[1:]),
            "sha256": sha256(IMAGES / "train.parquet"),
        },
        "latent": {"dtype": "float16", "space": "raw", "autoencoder": params.read("autoencoder", dict)},
        "decoding": {"resize": space.RESIZE} | source.judge.running.model_dump(),
        "thresholds": vars(source.limits) | {"validation_images": len(source.val_set)},
        "generators": generators,
        "params": {name: params.read(name, dict) for name in SECTIONS},
        "seed": source.seed,
        "audit": [inspection.separation(None, "id", source.val_set.pixels, source.decoded_val)],
    }


def audited(about: dict[str, Any], source: Shards, groups: list[Judged]) -> dict[str, Any]:
    """The same, with the audit of these groups."""
    found = inspection.audit_of(source.judge, source.val_set.pixels, source.decoded_val, groups)
    return about | {"audit": about["audit"] + found}


def main() -> None:
    settings, seed = params.read("shards", Params), params.read("seed", int)
    with ExitStack() as kept:
        source = Shards(settings, seed, kept)
        judged, others = source.outliers(), source.controls()
        about = describe(source) if is_first() else {}
        with replacing_together(OUTLIERS) as folder:
            packed = pack(folder, "outliers", judged, *source.packing)
            if is_first():
                packed.document(folder, audited(about, source, judged))
                inspection.draw_map(folder / "latent-map.png", source.judge, judged, settings.per_method)
        with replacing_together(CONTROLS) as folder:
            packed = pack(folder, "controls", others, *source.packing)
            if is_first():
                quality = inspection.measure_quality(source.judge, source.val_set, others)
                packed.document(folder, audited(about, source, others) | {"quality": quality})
                write_decoded_test(folder / "decoded-test.parquet", source)
                inspection.draw_classes(folder / "class-grid.png", source.train_set.classes, others)
    if is_first():
        shutil.rmtree(JUDGED, ignore_errors=True)  # also what a stopped run judged of methods that are named no more
