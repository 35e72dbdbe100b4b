"""Draw the candidates of every method and control that params.yaml names.

Reads: data/images, data/latents, data/models/{autoencoder,teacher,diffusion}: of each method what it says it reads.
Writes: data/candidates/METHOD.arrow.
Why: a method that is not named costs nothing, and one whose inputs, settings and code are unchanged is taken over.
"""

import shutil
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline import methods
from pipeline.artifacts import candidates, images, latents, models
from pipeline.artifacts.candidates import Candidates
from pipeline.artifacts.images import ImageFile, ImageSet
from pipeline.artifacts.latents import Latents
from pipeline.classifier.networks import Classifier
from pipeline.methods import Input, MethodSettings
from pipeline.runtime.closure import code_of
from pipeline.runtime.console import log
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import atomic_write
from pipeline.runtime.layout import CANDIDATES, IMAGES, LATENTS, MODELS
from pipeline.runtime.processes import is_first, pick_device, wait
from pipeline.runtime.resumable import digest_of, hashes_of, ranges, resumable
from pipeline.settings import params
from pipeline.settings.encode import InferenceSettings
from pipeline.settings.methods import Pools
from pipeline.synthesis import autoencoder as space

PATHS: dict[Input, list[Path]] = {
    "images": [IMAGES / "train.parquet"],
    "latents": [LATENTS / "train.arrow"],
    "autoencoder": [MODELS / "autoencoder"],
    "teacher": [MODELS / "teacher"],
    "diffusion": [MODELS / "diffusion"],
    "unknown": [IMAGES / "unknown.parquet"],
}


class Inputs:
    """What methods draw from, loaded when it is first read. See `methods.Inputs`."""

    def __init__(self) -> None:
        self.seed, self.size = params.read("seed", int), params.read("autoencoder.size", int)
        self.running = space.resolved(params.read("encode", InferenceSettings))

    @cached_property
    def images(self) -> ImageSet:
        return images.load_split(IMAGES, "train")

    @cached_property
    def latents(self) -> Latents:
        return latents.load(LATENTS / "train.arrow")

    @cached_property
    def autoencoder(self) -> space.Autoencoder:
        return models.load(space.AnyAutoencoder, MODELS / "autoencoder").to(pick_device())

    @cached_property
    def teacher(self) -> Classifier:
        return models.load(Classifier, MODELS / "teacher").to(pick_device())

    @cached_property
    def diffusion(self) -> Any:
        from pipeline.synthesis.unet import ConditionalUNet

        return models.load(ConditionalUNet, MODELS / "diffusion").to(pick_device())

    @cached_property
    def oracle(self) -> Tensor:
        """The images of the near-OOD validation sets.

        Raises:
            UserError: there are none.
        """
        if not (paths := oracle_paths()):
            raise UserError("oracle: no near-OOD validation set; give some under prepare.folder.val_near")
        return torch.cat([images.load(path).pixels for path in paths])

    @cached_property
    def unknown(self) -> Tensor:
        """The user's own OOD images.

        Raises:
            UserError: there are none.
        """
        if not (path := IMAGES / "unknown.parquet").is_file():
            raise UserError("unknown: no image; give a folder of some as prepare.folder.unknown")
        return images.load(path).pixels

    def decode_images(self, raw_latents: Tensor) -> Tensor:
        """float32 images in -1..1 at the ID images' size, with a gradient."""
        return space.decode_images(self.autoencoder, raw_latents, self.teacher.size, self.running)


def oracle_paths() -> list[Path]:
    """The near-OOD validation sets."""
    return [path for path in images.ood_sets(IMAGES) if ImageFile(path).role == "val-near"]


def identity(name: str, settings: MethodSettings, count: int, inputs: Inputs) -> dict[str, Any]:
    """All that the candidates of a method are made from."""
    read = [path for source in settings.reads for path in (PATHS[source] if source in PATHS else oracle_paths())]
    return {
        "method": name,
        "count": count,
        "settings": settings.model_dump(),
        "seed": inputs.seed,
        "size": inputs.size,
        "running": inputs.running.model_dump(),
        "inputs": hashes_of(*read),
        "code": code_of(methods.module_of(name), "pipeline.sample"),
    }


def make(name: str, settings: MethodSettings, about: dict[str, Any], digest: str, inputs: Inputs) -> None:
    """Draw the candidates of a method and write them. A killed run goes on at its first unfinished piece."""
    draw = methods.load(name).method(settings, inputs)
    pieces = ranges(about["count"], settings.at_once)
    folder = CANDIDATES.with_name(f".candidates-{name}.parts")
    with resumable(folder, about, len(pieces), lambda i: draw(pieces[i]).columns(), name) as made:
        if is_first():
            with atomic_write(CANDIDATES / f"{name}.arrow") as path:
                candidates.write(path, Candidates.of_columns(made.whole()), digest)
    log(f"sample: {name}: {about['count']} candidates")


def remove_others(named: Collection[str]) -> None:
    """Remove the candidates of methods that are named no more, and the parts that a killed run left of them."""
    for path in CANDIDATES.glob("*.arrow"):
        if path.stem not in named:
            path.unlink()
    for path in CANDIDATES.parent.glob(".candidates-*.parts"):  # of the named ones none is left
        shutil.rmtree(path)


def main() -> None:
    named = methods.required(params.read("methods", Pools), params.read("sample", methods.schema()))
    inputs, per_method, work = Inputs(), params.read("shards.per_method", int), []
    for name, settings in named.items():
        about = identity(name, settings, getattr(settings, "count", per_method), inputs)
        digest = digest_of(about)
        if candidates.made_from(CANDIDATES / f"{name}.arrow") == digest:
            log(f"sample: {name}: taken over")
        else:
            work.append((name, settings, about, digest))
    wait()  # until every process has looked
    for name, settings, about, digest in work:
        make(name, settings, about, digest, inputs)
    if is_first():
        CANDIDATES.mkdir(parents=True, exist_ok=True)
        remove_others(named)
