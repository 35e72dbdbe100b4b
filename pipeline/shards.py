"""Pack the outlier dataset: decode, filter, audit, count, document.

Reads: data/candidates, data/latents, data/images, data/models/{autoencoder,teacher}.
Writes: data/outliers (shards.methods) and data/controls (noise, pixel-mixup, cut-mix, synthetic-id, decoded-id; `real`,
of the near-OOD validation images, where there are some: a bound, for who trains on it has no validation left; and
decoded-test.parquet, ID test images as the decoder shows them), see artifacts/outliers.py.
Why: this is what teams share. Equal counts of every method, so that methods can be compared.
"""

import shutil
from pathlib import Path
from typing import Annotated, Any

import torch
from accelerate import Accelerator
from pydantic import Field, PositiveInt
from torch import Tensor

from pipeline import params
from pipeline.artifacts import candidates, images, latents, models
from pipeline.artifacts.candidates import Candidates
from pipeline.artifacts.files import replacing, sha256
from pipeline.artifacts.images import OOD_LABEL, ImageFile, Picture
from pipeline.artifacts.latents import Latents
from pipeline.artifacts.layout import CANDIDATES, CONTROLS, IMAGES, LATENTS, MODELS, OUTLIERS
from pipeline.artifacts.parts import fingerprint, in_parts
from pipeline.artifacts.pictures import contact_sheet, map_of
from pipeline.errors import UserError
from pipeline.learning.batches import shuffled
from pipeline.learning.networks import Classifier, predict
from pipeline.synthesis import audit, controls, cures, filters, quality
from pipeline.synthesis import autoencoder as space
from pipeline.synthesis.judging import BATCH, Judge, Judged, check_fits, check_unlike_id
from pipeline.synthesis.packing import publish
from pipeline.synthesis.randomness import normal

Share = Annotated[float, Field(gt=0, lt=1)]
# of params.yaml, which decide the outliers
SECTIONS = ("encode", "boundary", "crossing", "embedding", "diffusion", "mixup", "shards")
GRID_CLASSES = 20  # classes shown in the class grid


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


def judged_parts(method: str) -> Path:
    """Where judged candidates wait until the datasets are written."""
    return OUTLIERS.with_name(f".{method}.judged")


class Shards:
    """Everything the stage reads, and the thresholds that follow from it."""

    def __init__(self, settings: Params, seed: int):
        self.settings, self.seed = settings, seed
        self.train_set, self.val_set = images.load_split(IMAGES, "train"), images.load_split(IMAGES, "val")
        self.latents = {split: latents.load(LATENTS / f"{split}.arrow") for split in ("train", "val", "test")}
        device = Accelerator().device
        autoencoder = models.load(space.AnyAutoencoder, MODELS / "autoencoder").to(device)
        teacher = models.load(Classifier, MODELS / "teacher").to(device)
        running = params.read("encode", space.Running)
        self.judge = Judge(
            autoencoder, teacher, self.train_set, self.latents["train"].mean, settings.neighbours, running
        )
        evidence = self.judge.evidence(self.val_set.pixels, self.latents["val"].mean)
        self.limits = filters.thresholds(evidence, settings.inside_id, settings.confident)

    @property
    def packing(self) -> tuple[list[str], int, int, int]:
        """What both datasets are packed with: keys of the training images, per_method, per_shard, seed."""
        return self.latents["train"].keys, self.settings.per_method, self.settings.per_shard, self.seed

    def judge_method(self, name: str) -> Judged:
        """Decode the candidates of a method, cure and filter them; a killed run goes on where it was.

        Args:
            name: METHOD, or METHOD+CURE+CURE.
        """
        method, *names = name.split("+")
        found = candidates.load(CANDIDATES / f"{method}.arrow")
        check_fits(found, self.judge, method)

        def make(indices: range) -> dict[str, Tensor]:
            part = found[indices.start : indices.stop]
            pixels = self.judge.render(part, indices, names, self.seed, method)
            return {"pixels": pixels} | vars(self.judge.evidence(pixels, part.raw_latents))

        inputs = fingerprint(CANDIDATES / f"{method}.arrow", LATENTS, IMAGES / "train.parquet")
        inputs += fingerprint(MODELS / "autoencoder", MODELS / "teacher")
        running = self.judge.running.model_dump()
        identity = {"cures": names, "k": self.settings.neighbours, "seed": self.seed, "running": running, "in": inputs}
        columns = in_parts(judged_parts(name), identity, len(found), BATCH, make, f"judge {name}", keep=True)
        pixels, evidence = columns.pop("pixels"), filters.Evidence(**columns)
        reasons = filters.reasons(evidence, self.limits, self.settings.filters)
        return Judged(name, found, pixels, evidence, torch.full((len(found),), OOD_LABEL), reasons)

    def outliers(self) -> list[Judged]:
        """All methods, judged; stops where too few are accepted or they look like ID images."""
        judged = []
        for method in self.settings.methods:
            judged.append(own := self.judge_method(method))
            check_unlike_id(own, own.choose(self.settings.per_method), self.limits, self.settings.max_id_like)
        return judged

    def control(self, method: str, found: Candidates, pixels: Tensor, labels: Tensor) -> Judged:
        """A control with its evidence; controls are not filtered."""
        evidence = self.judge.evidence(pixels, found.raw_latents)
        return Judged(method, found, pixels, evidence, labels, [""] * len(found))

    def controls(self) -> list[Judged]:
        """Controls that are outliers without a method, and two kinds of further ID images."""
        count, shape = self.settings.per_method, tuple(self.train_set.pixels.shape[1:])
        none = torch.full((count, 2), -1)
        drawn = {
            "noise": (controls.noise_images(self.seed, count, shape), none, torch.zeros(count)),
            "pixel-mixup": controls.pixel_mixup(self.seed, count, self.train_set),
            "cut-mix": controls.cut_mix(self.seed, count, self.train_set),
        }
        paths = [path for path in images.ood_sets(IMAGES) if ImageFile(path).role == "val-near"]
        if real := [images.load(path).pixels for path in paths]:
            drawn["real"] = (controls.real_images(self.seed, count, torch.cat(real)), none, torch.zeros(count))
        found = []
        size, no_class = params.read("autoencoder.size", int), torch.full((count,), OOD_LABEL)
        for name, (pixels, rows, strength) in drawn.items():
            raw_latents = self.judge.encode(pixels, size)
            parents = torch.where(rows >= 0, self.train_set.labels[rows], rows)
            found.append(self.control(name, Candidates(raw_latents, parents, strength, rows[:, 0]), pixels, no_class))
        of_id = {
            "synthetic-id": candidates.load(CANDIDATES / "synthetic-id.arrow"),
            "decoded-id": redraw(self.latents["train"], count, self.seed),
        }
        for name, own in of_id.items():
            found.append(self.control(name, own, self.judge.decode(own.raw_latents), own.parents[:, 0]))
        return found


def redraw(encoded: Latents, count: int, seed: int) -> Candidates:
    """`count` ID training images as the decoder shows them: draws from their posteriors, in passes over all images.

    With these as further ID images in training, "decoded" is no longer a sign of "unknown".
    """
    rows = next(shuffled(len(encoded.keys), count, seed))  # not class by class: a part of them is a fair part
    noise = normal(seed, "decoded-id", range(count), tuple(encoded.mean.shape[1:]))
    parents = encoded.labels[rows][:, None].repeat(1, 2)
    return Candidates(encoded.mean[rows] + encoded.std[rows] * noise, parents, torch.ones(count), rows)


def look_for_shortcuts(source: Shards, decoded: Tensor, groups: list[Judged]) -> dict[str, Any]:
    """The audit: each method's accepted images against decoded and against plain ID validation images."""
    report: dict[str, Any] = {}
    for judged in groups:
        own = judged.pixels[judged.accepted]
        vectors = source.judge.scaled(judged.found.raw_latents[judged.accepted])
        report[f"decoded id against {judged.method}"] = audit.telltale(decoded, own)
        report[f"id against {judged.method}"] = audit.telltale(source.val_set.pixels, own)
        report[f"diversity of {judged.method}"] = audit.diversity(vectors, own)
    return report


def measure_quality(source: Shards, groups: list[Judged]) -> dict[str, dict[str, float]]:
    """How near the generators come to ID: synthetic and decoded ID images, and ID training images as the bound."""
    judge, val_set, train_set = source.judge, source.val_set, source.train_set
    sets = {judged.method: (judged.pixels, judged.labels) for judged in groups if bool((judged.labels >= 0).all())}
    sets["id training images"] = (train_set.pixels, train_set.labels)
    held_out = predict(judge.teacher, val_set.pixels, BATCH)[1]
    count = min(len(labels) for _, labels in sets.values())  # the distance depends on the number of images
    report = {}
    for name, (pixels, labels) in sets.items():
        rows = images.evenly(count, len(labels))
        logits, features = predict(judge.teacher, pixels[rows], BATCH)
        report[name] = {
            "frechet": round(quality.frechet_distance(features, held_out), 4),
            "agreement": round(quality.agreement(logits, labels[rows]), 2),
        }
    return report


def draw_map(path: Path, source: Shards, judged: list[Judged]) -> None:
    """Where the packed outliers of each method lie beside ID latents."""
    known = source.judge.scaled(source.latents["train"].mean).numpy()
    own = {one.method: one.choose(source.settings.per_method) for one in judged}
    groups = {one.method: source.judge.scaled(one.found.raw_latents[own[one.method]]).numpy() for one in judged}
    map_of(path, known, groups)


def write_decoded_test(path: Path, source: Shards) -> None:
    """ID test images as the decoder shows them: what a classifier that learned "decoded" would flag."""
    encoded = source.latents["test"]
    rows = zip(encoded.keys, source.judge.decode(encoded.mean).numpy(), encoded.labels.tolist(), strict=True)
    pictures = [Picture(key, images.encode_png(pixels), label) for key, pixels, label in rows]
    images.write(path, pictures, source.train_set.classes, "decoded", ImageFile(IMAGES / "test.parquet").preprocessing)


def describe(source: Shards) -> dict[str, Any]:
    """What dataset.json says of the ID set, the generators and the parameters that made it."""
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
    }


def main() -> None:
    settings, seed = params.read("shards", Params), params.read("seed", int)
    if unknown := set(settings.filters) - set(filters.FILTERS):
        known = ", ".join(filters.FILTERS)
        raise UserError(f"params.yaml: shards.filters: unknown {sorted(unknown)}; expected some of {known}")
    for name in settings.methods:
        cures.check(name)
    source = Shards(settings, seed)
    judged, others, about = source.outliers(), source.controls(), describe(source)
    decoded = source.judge.decode(source.latents["val"].mean)
    told = {"id against decoded id": audit.telltale(source.val_set.pixels, decoded)}
    with replacing(OUTLIERS) as folder:
        folder.mkdir()
        found = {"audit": told | look_for_shortcuts(source, decoded, judged)}
        publish(folder, "outliers", judged, about | found, *source.packing)
        draw_map(folder / "latent-map.png", source, judged)
    with replacing(CONTROLS) as folder:
        folder.mkdir()
        found = {
            "audit": told | look_for_shortcuts(source, decoded, others),
            "quality": measure_quality(source, others),
        }
        publish(folder, "controls", others, about | found, *source.packing)
        write_decoded_test(folder / "decoded-test.parquet", source)
        synthetic = next(own for own in others if own.method == "synthetic-id")
        rows = quality.by_class(synthetic.pixels, synthetic.labels, min(GRID_CLASSES, len(source.train_set.classes)))
        grid = [{name: pixels} for name, pixels in zip(source.train_set.classes, rows, strict=False)]
        contact_sheet(folder / "class-grid.png", grid, rows=1)
    for method in settings.methods:
        shutil.rmtree(judged_parts(method))
