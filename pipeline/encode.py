"""Encode the ID images to raw latents, once.

Reads: data/images/{train,val,test}.parquet, data/models/autoencoder.
Writes: data/latents/{train,val,test}.arrow, memory-mapped by whoever reads them.
Why: outliers are sampled around ID latents, and the filter's thresholds come from validation latents; test latents are
only ever decoded, to see whether a classifier flags what merely went through the autoencoder.
"""

from accelerate import Accelerator

from pipeline import params
from pipeline.artifacts import latents, models
from pipeline.artifacts.files import replacing
from pipeline.artifacts.images import ImageFile
from pipeline.artifacts.latents import Latents
from pipeline.artifacts.layout import IMAGES, LATENTS, MODELS
from pipeline.artifacts.parts import Part, Parts, fingerprint, parts
from pipeline.console import say
from pipeline.processes import is_first
from pipeline.synthesis import autoencoder as space

PATHS = [IMAGES / f"{split}.parquet" for split in ("train", "val", "test")]


def write(files: list[ImageFile], jobs: list[tuple[ImageFile, int]], made: Parts) -> None:
    """Write the latents of each set, a piece at a time."""
    with replacing(LATENTS) as folder:
        for file in files:
            own = (_part(file, piece, made[i]) for i, (of, piece) in enumerate(jobs) if of is file)
            latents.write(folder / f"{file.path.stem}.arrow", own, made[0]["mean"].shape[1:])
            say(f"encode: {file.path.stem}: {sum(file.sizes)} images")


def _part(file: ImageFile, piece: int, columns: Part) -> Latents:
    keys, labels = file.names(piece)
    return Latents(keys, labels, columns["mean"], columns["std"])


def main() -> None:
    running, size = params.read("encode", space.Running), params.read("autoencoder.size", int)
    autoencoder = models.load(space.AnyAutoencoder, MODELS / "autoencoder").to(Accelerator().device)
    files = [ImageFile(path) for path in PATHS]
    jobs = [(file, piece) for file in files for piece in range(len(file.sizes))]

    def encode(i: int) -> Part:
        file, piece = jobs[i]
        mean, std = space.encode(autoencoder, file.load(piece)[0], size, running)
        return {"mean": mean, "std": std}

    inputs = fingerprint(*PATHS, MODELS / "autoencoder")
    identity = {"running": running.model_dump(), "size": size, "inputs": inputs}
    with parts(LATENTS.with_name(".latents.parts"), identity, len(jobs), encode, "encode") as made:
        if is_first():
            write(files, jobs, made)
