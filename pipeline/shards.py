"""Pack the outlier dataset: render, judge, audit, count, document.

Reads: data/candidates, data/latents, data/images, data/models/{autoencoder,teacher,diffusion}.
Writes: data/outliers and data/controls, the methods and the controls that params.yaml names, see artifacts/outliers.py;
data/controls/decoded-test.parquet, ID test images as the decoder shows them.
Why: this is what teams share. Equal counts of every method, so that methods can be compared.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline import methods
from pipeline.artifacts import candidates, images, latents, models, packing
from pipeline.artifacts.codec import encode_png
from pipeline.artifacts.images import ImageFile, Picture
from pipeline.artifacts.latents import Latents
from pipeline.artifacts.packing import Packed
from pipeline.artifacts.pictures import contact_sheet, map_of
from pipeline.artifacts.provenance import chain
from pipeline.artifacts.roles import OOD_LABEL
from pipeline.classifier.networks import Classifier
from pipeline.runtime.console import log, track
from pipeline.runtime.files import atomic_write_together, read_json, sha256
from pipeline.runtime.layout import CANDIDATES, CONTROLS, IMAGES, LATENTS, MODELS, OUTLIERS
from pipeline.runtime.processes import is_first, pick_device
from pipeline.runtime.resumable import digest_of, hashes_of, ranges, resumable
from pipeline.settings import params
from pipeline.settings.encode import InferenceSettings
from pipeline.settings.methods import Pools, base_of, corrections_of
from pipeline.settings.shards import ShardsSettings
from pipeline.synthesis import autoencoder as space
from pipeline.synthesis import filters, inspection, quality
from pipeline.synthesis.judging import BATCH, Judge, Judged, check_unlike_id
from pipeline.synthesis.rendering import Images, Renderer

SECTIONS = ("methods", "sample", "encode", "diffusion", "shards")  # of params.yaml, which decide the outliers
JUDGED = OUTLIERS.with_name(".judged")  # parts, until the datasets are written
GRID_CLASSES = 20  # classes shown in the class grid


class Source:
    """The ID images and latents, the models, and the thresholds that follow from them.

    Attributes:
        methods: the settings of each method whose candidates are packed.
        about: what dataset.json says of all that, the same for outliers and controls.
    """

    def __init__(self, settings: ShardsSettings, pools: Sequence[str]):
        self.settings, self.seed = settings, params.read("seed", int)
        self.methods = methods.required(pools, params.read("sample", methods.schema()))
        self.train_set, self.val_set = images.load_split(IMAGES, "train"), images.load_split(IMAGES, "val")
        self.train, self.val = self.latents("train"), self.latents("val")
        autoencoder = models.load(space.AnyAutoencoder, MODELS / "autoencoder").to(pick_device())
        running = space.resolved(params.read("encode", InferenceSettings))
        size = params.read("autoencoder.size", int)
        self.renderer = Renderer(autoencoder, running, size, self.train_set, self.train.mean, self.seed)
        self.teacher = models.load(Classifier, MODELS / "teacher").to(pick_device())
        self.judge = Judge(self.teacher, self.train_set, self.train.mean, settings.neighbours)
        evidence = self.judge.evidence(self.val_set.pixels, self.val.mean)
        self.limits = filters.thresholds(evidence, settings.distance_quantile, settings.confidence_quantile)
        self.about = describe(self)

    @staticmethod
    def latents(split: str) -> Latents:
        """The raw latents of an ID split."""
        return latents.load(LATENTS / f"{split}.arrow")

    @property
    def identity(self) -> list[Any]:
        """All that the evidence on a candidate depends on, besides the candidate."""
        inputs = hashes_of(IMAGES, LATENTS, MODELS / "autoencoder", MODELS / "teacher")
        return [self.renderer.running.model_dump(), self.settings.neighbours, self.seed, inputs]


@contextmanager
def judging(pool: str, source: Source) -> Iterator[Judged]:
    """The candidates of METHOD+CORRECTION+..., rendered and judged; what a killed run had judged is taken over."""
    method, path = source.methods[base_of(pool)], CANDIDATES / f"{base_of(pool)}.arrow"
    found, filtered = candidates.load(path), method.dataset == "outliers"
    is_unsafe = method.safety_checker() if "unsafe" in source.settings.filters else None
    pieces = ranges(len(found), BATCH)

    def make(i: int) -> dict[str, Tensor]:
        rows = slice(pieces[i].start, pieces[i].stop)
        made = source.renderer.render(found[rows], pieces[i], corrections_of(pool), base_of(pool))
        return vars(made) | vars(source.judge.evidence(made.pixels, made.raw_latents, is_unsafe))

    identity = [pool, hashes_of(path), source.identity, is_unsafe is not None]
    with resumable(JUDGED / pool, identity, len(pieces), make, pool) as kept:
        columns = kept.whole()
        rendered = Images(**{field: columns.pop(field) for field in Images.__dataclass_fields__})
        evidence = filters.Evidence(**columns)
        wanted = source.settings.filters if filtered else []
        reasons = filters.reasons(evidence, source.limits, wanted)
        labels = rendered.parents[:, 0] if method.is_id else torch.full((len(found),), OOD_LABEL)
        yield Judged(
            pool, method.strength, method.source_type, rendered, evidence, labels, reasons, source.train.keys,
            source.seed,
        )  # fmt: skip


def identity_of(classes: list[str], count: int, shape: list[int]) -> dict[str, Any]:
    """What dataset.json says of the ID images."""
    benchmark, digest = params.read("prepare.benchmark", str), sha256(IMAGES / "train.parquet")
    return {"benchmark": benchmark, "classes": classes, "count": count, "shape": shape, "sha256": digest}


def generators_of(source: Source) -> dict[str, dict[str, Any]]:
    """The models that made the images, and where those came from that others trained."""
    found: dict[str, dict[str, Any]] = {
        name: {
            "config": sha256(MODELS / name / "config.json"),
            "weights": sha256(next((MODELS / name).glob("*.safetensors"))),
        }
        for name in ("autoencoder", "diffusion", "teacher")
        if (MODELS / name / "config.json").is_file()
    }
    if (origin := MODELS / "autoencoder/origin.json").is_file():
        found["autoencoder"] |= read_json(origin)
    own = {name: method.provenance() for name, method in source.methods.items()}
    return found | {f"of {name}": about for name, about in own.items() if about}


def describe(source: Source) -> dict[str, Any]:
    """What dataset.json says of the ID set, the decoder, the generators and the parameters that made it."""
    train_set, settings, generators = source.train_set, source.settings, generators_of(source)
    return {
        "licence": settings.licence,
        "licences": chain(settings.id_licence, generators, settings.licence),
        "id": identity_of(train_set.classes, len(train_set), list(train_set.pixels.shape[1:])),
        "latent": {"dtype": "float16", "space": "raw", "autoencoder": params.read("autoencoder", dict)},
        "decoding": {"resize": space.RESIZE} | source.renderer.running.model_dump(),
        "thresholds": vars(source.limits) | {"validation_images": len(source.val_set)},
        "generators": generators,
        "params": {name: params.read(name, Any) for name in SECTIONS},
        "seed": source.seed,
    }


def pack(folder: Path, name: str, groups: Sequence[Judged], settings: ShardsSettings, about: dict[str, Any]) -> Packed:
    """Write the shards of one dataset, whose images are marked with what all of it was made from."""
    fingerprint = digest_of([name, about])
    return packing.pack(folder, name, groups, settings.per_method, settings.per_shard, fingerprint)


def write_decoded_test(path: Path, source: Source) -> None:
    """ID test images as the decoder shows them: what a classifier that learned "decoded" would flag."""
    encoded = source.latents("test")
    rows = zip(encoded.keys, source.renderer.decode(encoded.mean).numpy(), encoded.labels.tolist(), strict=True)
    shown = track(rows, "pack decoded-test", len(encoded.keys))
    pictures = (Picture(key, encode_png(pixels), label) for key, pixels, label in shown)
    images.write(path, pictures, source.train_set.classes, "decoded", ImageFile(IMAGES / "test.parquet").preprocessing)


def document(packed: Packed, folder: Path, groups: list[Judged], source: Source, decoded_val: Tensor) -> None:
    """Write what lies beside the shards: dataset.json with the audit, the card, pictures."""
    about = dict(source.about)
    about["audit"] = inspection.audit_of(source.judge, source.val_set.pixels, decoded_val, groups)
    about["quality"] = inspection.measure_quality(source.teacher, source.train_set, source.val_set, groups)
    packed.document(folder, about)
    counts = ", ".join(f"{judged.method} {len(packed.chosen[judged.method])}" for judged in groups)
    log(f"shards: {packed.name}: {counts or 'none named'}")


def draw_map(path: Path, source: Source, groups: list[Judged], chosen: dict[str, list[int]]) -> None:
    """Where the packed outliers of each method lie beside ID latents."""
    scaled = source.judge.scaled
    own = {judged.method: scaled(judged.raw_latents[chosen[judged.method]]).numpy() for judged in groups}
    map_of(path, scaled(source.train.mean).numpy(), own)


def draw_classes(path: Path, classes: list[str], synthetic: Judged) -> None:
    """Synthetic ID images, one row per class."""
    rows = quality.by_class(synthetic.pixels, synthetic.labels, min(GRID_CLASSES, len(classes)))
    contact_sheet(path, [{name: pixels} for name, pixels in zip(classes, rows, strict=False)], rows=1)


def write_outliers(groups: list[Judged], source: Source, decoded_val: Tensor) -> None:
    """Pack the outlier methods; stops where too few are accepted or they look like ID."""
    settings = source.settings
    for judged in groups:
        check_unlike_id(judged, judged.choose(settings.per_method), source.limits, settings.max_id_like)
    with atomic_write_together(OUTLIERS) as folder:
        packed = pack(folder, "outliers", groups, settings, source.about)
        if is_first():
            document(packed, folder, groups, source, decoded_val)
            if groups:
                draw_map(folder / "latent-map.png", source, groups, packed.chosen)


def write_controls(groups: list[Judged], source: Source, decoded_val: Tensor) -> None:
    """Pack the controls, and the decoded test images."""
    with atomic_write_together(CONTROLS) as folder:
        packed = pack(folder, "controls", groups, source.settings, source.about)
        if is_first():
            document(packed, folder, groups, source, decoded_val)
            write_decoded_test(folder / "decoded-test.parquet", source)
            for judged in groups:
                if judged.method == "synthetic-id":
                    draw_classes(folder / "class-grid.png", source.train_set.classes, judged)


def pack_nothing(settings: ShardsSettings) -> None:
    """Two datasets without an image, where `methods` names none: no model and no latent is looked at."""
    train_file = ImageFile(IMAGES / "train.parquet")
    about = {
        "licence": settings.licence,
        "licences": chain(settings.id_licence, {}, settings.licence),
        "id": identity_of(train_file.classes, sum(train_file.sizes), list(train_file.load(0)[0].shape[1:])),
        "seed": params.read("seed", int),
    }
    for name, target in (("outliers", OUTLIERS), ("controls", CONTROLS)):
        with atomic_write_together(target) as folder:
            packed = pack(folder, name, [], settings, about)
            if is_first():
                packed.document(folder, about)
    log("shards: `methods` names none; both datasets are empty")


def main() -> None:
    pools, settings = params.read("methods", Pools), params.read("shards", ShardsSettings)
    if not pools:
        return pack_nothing(settings)
    source = Source(settings, pools)
    with ExitStack() as kept:
        judged = [kept.enter_context(judging(pool, source)) for pool in pools]
        decoded_val = source.renderer.decode(source.val.mean)
        of = {"outliers": write_outliers, "controls": write_controls}
        for dataset, write in of.items():
            write([own for own in judged if methods.about(base_of(own.method)).dataset == dataset], source, decoded_val)
    if is_first():
        shutil.rmtree(JUDGED, ignore_errors=True)  # also what a stopped run judged of methods that are named no more
