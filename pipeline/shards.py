"""Pack the outlier dataset: decode, filter, count, document.

Reads: data/candidates, data/latents, data/images/{train,val}.parquet, data/models/{autoencoder,teacher}.
Writes: data/outliers (boundary, mixup) and data/controls (noise, synthetic-id), see artifacts/outliers.py.
Why: this is what teams share. Equal counts of every method, so that methods can be compared.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from accelerate import Accelerator
from diffusers import AutoModel
from pydantic import Field, PositiveInt
from torch import Tensor

from pipeline import params
from pipeline.artifacts import candidates, images, latents, models, outliers
from pipeline.artifacts.candidates import Candidates
from pipeline.artifacts.cards import dataset_card
from pipeline.artifacts.files import replacing, sha256, write_json
from pipeline.artifacts.images import OOD_LABEL, ImageSet
from pipeline.artifacts.layout import CANDIDATES, CONTROLS, IMAGES, LATENTS, MODELS, OUTLIERS
from pipeline.artifacts.outliers import encode_sample
from pipeline.artifacts.pictures import contact_sheet
from pipeline.console import say
from pipeline.errors import UserError
from pipeline.learning.networks import Classifier, predict
from pipeline.synthesis import autoencoder as space
from pipeline.synthesis import filters
from pipeline.synthesis.neighbours import kth_distance
from pipeline.synthesis.noise import noise_images

METHODS = ("boundary", "mixup")
BATCH = 500  # images decoded and classified at once


class Params(params.Section):
    per_method: PositiveInt
    per_shard: PositiveInt
    neighbours: PositiveInt
    inside_id: Annotated[float, Field(gt=0, lt=1)]
    confident: Annotated[float, Field(gt=0, lt=1)]
    filters: list[str]
    licence: str


@dataclass(frozen=True)
class Judge:
    """What candidates are held against: the ID images and latents, the teacher, the autoencoder."""

    autoencoder: space.Autoencoder
    teacher: Classifier
    train_latents: Tensor  # (n, d), in standard deviations of each dimension
    scale: Tensor  # (d,)
    settings: Params

    def evidence(self, pixels: Tensor, raw_latents: Tensor) -> filters.Evidence:
        """Evidence on uint8 pixels and their raw latents."""
        logits, _ = predict(self.teacher, pixels, BATCH)
        flat = raw_latents.flatten(1) / self.scale
        return filters.look(
            pixels, raw_latents, logits, kth_distance(flat, self.train_latents, self.settings.neighbours)
        )


@dataclass(frozen=True)
class Judged:
    """Candidates of one method with pixels, evidence, labels and the reason each is rejected, "" if none."""

    method: str
    found: Candidates
    pixels: Tensor
    evidence: filters.Evidence
    labels: Tensor
    reasons: list[str]

    def fields(self, i: int, seed: int) -> dict[str, Any]:
        """Index fields of candidate i."""
        first, second = self.found.parents[i].tolist()
        return {
            "method": self.method,
            "label": int(self.labels[i]),
            "parent_a": first,
            "parent_b": second,
            "strength": round(float(self.found.strength[i]), 6),
            "source": self.found.source[i],
            "candidate": i,
            "distance": round(float(self.evidence.distance[i]), 4),
            "confidence": round(float(self.evidence.confidence[i]), 6),
            "seed": seed,
        }


def load_judge(settings: Params) -> Judge:
    """The judge, from the artefacts of earlier stages."""
    encoded = latents.load(LATENTS / "train.arrow").mean.flatten(1)
    device = Accelerator().device
    return Judge(
        autoencoder=models.load(AutoModel, MODELS / "autoencoder").to(device),
        teacher=models.load(Classifier, MODELS / "teacher").to(device),
        train_latents=encoded / encoded.std(dim=0),
        scale=encoded.std(dim=0),
        settings=settings,
    )


def limits(judge: Judge, val_set: ImageSet) -> filters.Thresholds:
    """The filters' thresholds, from ID validation images."""
    raw_latents = latents.load(LATENTS / "val.arrow").mean
    validation = judge.evidence(val_set.pixels, raw_latents)
    return filters.thresholds(validation, judge.settings.inside_id, judge.settings.confident)


def judge_outliers(judge: Judge, method: str, thresholds: filters.Thresholds, size: int) -> Judged:
    """Decode and filter the candidates of one method."""
    found = candidates.load(CANDIDATES / f"{method}.arrow")
    pixels = space.decode(judge.autoencoder, found.raw_latents, size, BATCH)
    evidence = judge.evidence(pixels, found.raw_latents)
    verdicts = filters.reasons(evidence, thresholds, judge.settings.filters)
    return Judged(method, found, pixels, evidence, torch.full((len(found),), OOD_LABEL), verdicts)


def make_controls(judge: Judge, val_set: ImageSet, ae_size: int, seed: int) -> list[Judged]:
    """The controls, unfiltered: as many noise images and synthetic ID images as outliers of one method."""
    count, size = judge.settings.per_method, val_set.pixels.shape[-1]
    noise = noise_images(seed, count, tuple(val_set.pixels.shape[1:]))
    none = Candidates(
        space.encode(judge.autoencoder, noise, ae_size, BATCH)[0],
        torch.full((count, 2), -1), torch.zeros(count), [""] * count,
    )  # fmt: skip
    synthetic = candidates.load(CANDIDATES / "synthetic-id.arrow")
    decoded = space.decode(judge.autoencoder, synthetic.raw_latents, size, BATCH)
    pairs = [
        ("noise", none, noise, torch.full((count,), OOD_LABEL)),
        ("synthetic-id", synthetic, decoded, synthetic.parents[:, 0]),
    ]
    return [
        Judged(name, found, pixels, judge.evidence(pixels, found.raw_latents), labels, [""] * len(found))
        for name, found, pixels, labels in pairs
    ]


def choose(judged: Judged, wanted: int) -> list[int]:
    """The first `wanted` accepted candidates.

    Raises:
        UserError: fewer were accepted; names the counts by reason and what to change.
    """
    accepted = [i for i, reason in enumerate(judged.reasons) if not reason]
    if len(accepted) < wanted:
        counts = ", ".join(f"{reason} {n}" for reason, n in sorted(Counter(filter(None, judged.reasons)).items()))
        raise UserError(
            f"{judged.method}: {len(accepted)} of {len(judged.found)} candidates accepted "
            f"(rejected: {counts or 'none'}), expected at least shards.per_method = {wanted}; "
            f"raise {judged.method}.count, shards.inside_id or shards.confident, or move the candidates farther out "
            "(boundary.sigmas, mixup.ratio)"
        )
    return accepted[:wanted]


def publish(folder: Path, name: str, groups: list[Judged], about: dict[str, Any], settings: Params, seed: int) -> None:
    """Write one outlier dataset: shards, index, rejected, dataset.json, card, contact sheet."""
    chosen = {judged.method: choose(judged, settings.per_method) for judged in groups}
    samples, rejected = [], []
    for position in range(settings.per_method):  # methods in turn, so that every shard holds all of them
        for judged in groups:
            i = chosen[judged.method][position]
            latent = judged.found.raw_latents[i].numpy()
            samples.append(encode_sample(judged.pixels[i].numpy(), latent, judged.fields(i, seed)))
    for judged in groups:
        packed = set(chosen[judged.method])
        for i in range(len(judged.found)):
            if i not in packed:
                rejected.append(judged.fields(i, seed) | {"reason": judged.reasons[i] or "surplus"})
    methods = {
        judged.method: {
            "packed": settings.per_method,
            "candidates": len(judged.found),
            "rejected": dict(
                sorted(Counter(row["reason"] for row in rejected if row["method"] == judged.method).items())
            ),
        }
        for judged in groups
    }
    with replacing(folder) as partial:
        partial.mkdir()
        shards = outliers.pack(partial, name, samples, settings.per_shard)
        outliers.write_rejected(partial, rejected)
        content = {
            "schema_version": outliers.SCHEMA_VERSION,
            "name": name,
            "methods": methods,
            "shards": shards,
        } | about
        write_json(partial / "dataset.json", content)
        (partial / "README.md").write_text(dataset_card(content), encoding="utf-8")
        contact_sheet(partial / "contact-sheet.png", _pictures(groups, chosen))
    say(f"shards: {folder}: " + ", ".join(f"{name} {counts['packed']}" for name, counts in methods.items()))


def _pictures(groups: list[Judged], chosen: dict[str, list[int]]) -> dict[str, Tensor]:
    """Packed and rejected images of each method, for the contact sheet."""
    pictures = {}
    for judged in groups:
        pictures[f"{judged.method}, packed"] = judged.pixels[chosen[judged.method]]
        rejected = [i for i, reason in enumerate(judged.reasons) if reason]
        if rejected:
            pictures[f"{judged.method}, rejected"] = judged.pixels[rejected]
    return pictures


def describe(
    val_set: ImageSet, train_set: ImageSet, thresholds: filters.Thresholds, settings: Params
) -> dict[str, Any]:
    """What dataset.json says of the ID set, the generators and the parameters that made it."""
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
        "thresholds": vars(thresholds) | {"validation_images": len(val_set)},
        "generators": generators,
        "params": {name: params.read(name, dict) for name in ("boundary", "diffusion", "mixup", "shards")},
        "seed": params.read("seed", int),
    }


def main() -> None:
    settings, seed = params.read("shards", Params), params.read("seed", int)
    if unknown := set(settings.filters) - set(filters.FILTERS):
        raise UserError(
            f"params.yaml: shards.filters: unknown {sorted(unknown)}; expected {', '.join(filters.FILTERS)}"
        )
    train_set, val_set = images.load_split(IMAGES, "train"), images.load_split(IMAGES, "val")
    judge = load_judge(settings)
    thresholds = limits(judge, val_set)
    about = describe(val_set, train_set, thresholds, settings)
    size = val_set.pixels.shape[-1]
    judged = [judge_outliers(judge, method, thresholds, size) for method in METHODS]
    controls = make_controls(judge, val_set, params.read("autoencoder.size", int), seed)
    publish(OUTLIERS, "outliers", judged, about, settings, seed)
    publish(CONTROLS, "controls", controls, about, settings, seed)
