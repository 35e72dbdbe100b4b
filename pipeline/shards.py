"""Pack the outlier dataset: decode, filter, audit, count, document.

Reads: data/candidates, data/latents, data/images/{train,val}.parquet, data/models/{autoencoder,teacher}.
Writes: data/outliers (boundary, mixup) and data/controls (noise, synthetic-id, decoded-id), see artifacts/outliers.py.
Why: this is what teams share. Equal counts of every method, so that methods can be compared.
"""

from collections import Counter
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
from pipeline.artifacts.latents import Latents
from pipeline.artifacts.layout import CANDIDATES, CONTROLS, IMAGES, LATENTS, MODELS, OUTLIERS
from pipeline.artifacts.outliers import encode_sample
from pipeline.artifacts.pictures import contact_sheet
from pipeline.console import say
from pipeline.errors import UserError
from pipeline.learning.batches import shuffled
from pipeline.learning.networks import Classifier
from pipeline.synthesis import audit, filters
from pipeline.synthesis import autoencoder as space
from pipeline.synthesis.judging import BATCH, Judge, Judged, check_unlike_id, judge_control, judge_outliers
from pipeline.synthesis.noise import noise_images
from pipeline.synthesis.randomness import normal

METHODS = ("boundary", "mixup")
Share = Annotated[float, Field(gt=0, lt=1)]


class Params(params.Section):
    per_method: PositiveInt
    per_shard: PositiveInt
    neighbours: PositiveInt
    inside_id: Share
    confident: Share
    filters: list[str]
    max_id_like: Annotated[float, Field(ge=0, le=1)]
    licence: str


def load_judge(train_set: ImageSet, neighbours: int) -> Judge:
    """The judge, from the artefacts of earlier stages."""
    device = Accelerator().device
    return Judge(
        models.load(AutoModel, MODELS / "autoencoder").to(device),
        models.load(Classifier, MODELS / "teacher").to(device),
        train_set,
        latents.load(LATENTS / "train.arrow").mean,
        neighbours,
    )


def make_controls(judge: Judge, val_set: ImageSet, size: int, count: int, seed: int) -> list[Judged]:
    """The controls: `count` noise images, encoded at the autoencoder's `size`; synthetic and decoded ID images."""
    noise = noise_images(seed, count, tuple(val_set.pixels.shape[1:]))
    none = Candidates(
        raw_latents=space.encode(judge.autoencoder, noise, size, BATCH)[0],
        parents=torch.full((count, 2), -1),
        strength=torch.zeros(count),
        source=[""] * count,
    )
    noises = judge_control(judge, "noise", none, noise, torch.full((count,), OOD_LABEL))
    of_id = {
        "synthetic-id": candidates.load(CANDIDATES / "synthetic-id.arrow"),
        "decoded-id": redraw(latents.load(LATENTS / "train.arrow"), count, seed),
    }
    return [noises] + [
        judge_control(judge, name, found, judge.decode(found.raw_latents), found.parents[:, 0])
        for name, found in of_id.items()
    ]


def redraw(encoded: Latents, count: int, seed: int) -> Candidates:
    """`count` ID training images as the decoder shows them: draws from their posteriors, in passes over all images.

    With these as further ID images in training, "decoded" is no longer a sign of "unknown".
    """
    rows = next(shuffled(len(encoded.keys), count, seed))  # not class by class: a part of them is a fair part
    noise = normal(seed, "decoded-id", range(count), tuple(encoded.mean.shape[1:]))
    return Candidates(
        raw_latents=encoded.mean[rows] + encoded.std[rows] * noise,
        parents=encoded.labels[rows][:, None].repeat(1, 2),
        strength=torch.ones(count),
        source=[encoded.keys[row] for row in rows.tolist()],
    )


def look_for_shortcuts(judge: Judge, val_set: ImageSet, decoded: Tensor, groups: list[Judged]) -> dict[str, Any]:
    """The audit: ID against decoded ID validation images, and decoded ID against each method's accepted images."""
    report: dict[str, Any] = {"id against decoded id": audit.telltale(val_set.pixels, decoded)}
    for judged in groups:
        accepted = [i for i, reason in enumerate(judged.reasons) if not reason]
        own = judged.pixels[accepted]
        report[f"decoded id against {judged.method}"] = audit.telltale(decoded, own)
        report[f"diversity of {judged.method}"] = audit.diversity(judge.scaled(judged.found.raw_latents[accepted]), own)
    return report


def publish(folder: Path, name: str, groups: list[Judged], about: dict[str, Any], settings: Params, seed: int) -> None:
    """Write one outlier dataset: shards, index, rejected, dataset.json, card, contact sheet."""
    chosen = {judged.method: judged.choose(settings.per_method) for judged in groups}
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
        known = ", ".join(filters.FILTERS)
        raise UserError(f"params.yaml: shards.filters: unknown {sorted(unknown)}; expected some of {known}")
    train_set, val_set = images.load_split(IMAGES, "train"), images.load_split(IMAGES, "val")
    judge = load_judge(train_set, settings.neighbours)
    val_latents = latents.load(LATENTS / "val.arrow").mean
    limits = filters.thresholds(judge.evidence(val_set.pixels, val_latents), settings.inside_id, settings.confident)
    judged = [
        judge_outliers(judge, method, candidates.load(CANDIDATES / f"{method}.arrow"), limits, settings.filters)
        for method in METHODS
    ]
    for own in judged:
        check_unlike_id(own, own.choose(settings.per_method), limits, settings.max_id_like)
    controls = make_controls(judge, val_set, params.read("autoencoder.size", int), settings.per_method, seed)
    about = describe(val_set, train_set, limits, settings)
    decoded = judge.decode(val_latents)
    for folder, name, groups in ((OUTLIERS, "outliers", judged), (CONTROLS, "controls", controls)):
        found = {"audit": look_for_shortcuts(judge, val_set, decoded, groups)}
        publish(folder, name, groups, about | found, settings, seed)
