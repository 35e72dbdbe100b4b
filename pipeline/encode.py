"""Encode the ID images to raw latents, once.

Reads: data/images/{train,val,test}.parquet, data/models/autoencoder.
Writes: data/latents/{train,val,test}.arrow, memory-mapped by whoever reads them.
Why: outliers are sampled around ID latents, and the filter's thresholds come from validation latents; test latents are
only ever decoded, to see whether a classifier flags what merely went through the autoencoder.
"""

from pipeline.artifacts import latents, models
from pipeline.artifacts.chunks import Chunk, by_file, chunks_of
from pipeline.artifacts.images import ImageFile
from pipeline.artifacts.latents import Latents
from pipeline.runtime.console import log
from pipeline.runtime.files import atomic_write
from pipeline.runtime.layout import IMAGES, LATENTS, MODELS
from pipeline.runtime.processes import is_first, pick_device
from pipeline.runtime.resumable import FinishedParts, Part, hashes_of, resumable
from pipeline.settings import params
from pipeline.settings.encode import InferenceSettings
from pipeline.synthesis import autoencoder as space

PATHS = [IMAGES / f"{split}.parquet" for split in ("train", "val", "test")]


def write(pieces: list[Chunk], made: FinishedParts) -> None:
    """Write the latents of each set, a piece at a time."""
    with atomic_write(LATENTS) as folder:
        for file, own in by_file(pieces):
            found = (_part(piece, made[i]) for i, piece in own)
            latents.write(folder / f"{file.path.stem}.arrow", found, made[0]["mean"].shape[1:])
            log(f"encode: {file.path.stem}: {sum(file.sizes)} images")


def _part(piece: Chunk, columns: Part) -> Latents:
    keys, labels = piece.names()
    return Latents(keys, labels, columns["mean"], columns["std"])


def main() -> None:
    running = space.resolved(params.read("encode", InferenceSettings))
    size = params.read("autoencoder.size", int)
    autoencoder = models.load(space.AnyAutoencoder, MODELS / "autoencoder").to(pick_device())
    pieces = [piece for path in PATHS for piece in chunks_of(ImageFile(path))]

    def encode(i: int) -> Part:
        mean, std = space.encode(autoencoder, pieces[i].images(), size, running)
        return {"mean": mean, "std": std}

    inputs = hashes_of(*PATHS, MODELS / "autoencoder")
    identity = {"running": running.model_dump(), "size": size, "inputs": inputs}
    with resumable(LATENTS.with_name(".latents.parts"), identity, len(pieces), encode, "encode") as made:
        if is_first():
            write(pieces, made)
