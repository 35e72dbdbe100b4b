"""Move ID latents over the teacher's decision boundary by its gradient through the decoder.

Reads: data/latents/train.arrow, data/models/{autoencoder,teacher}.
Writes: data/candidates/crossing.arrow.
Why: in hundreds of dimensions Gaussian noise hardly ever points at what an image shows; the gradient does.
"""

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from pipeline.artifacts import latents, models
from pipeline.artifacts.candidates import Candidates, Method, leave_out, produce
from pipeline.artifacts.latents import Latents
from pipeline.classifier.networks import Classifier
from pipeline.runtime.layout import LATENTS, MODELS
from pipeline.runtime.processes import pick_device
from pipeline.runtime.resumable import fingerprint
from pipeline.settings import params
from pipeline.synthesis import autoencoder as space
from pipeline.synthesis import randomness
from pipeline.synthesis.crossing import cross


class Params(params.Section):
    count: NonNegativeInt
    sigma: NonNegativeFloat
    stride: PositiveFloat
    most: PositiveInt
    beyond: NonNegativeInt
    batch: PositiveInt


def method(
    encoded: Latents, autoencoder: space.Autoencoder, teacher: Classifier, running: space.Running, settings: Params,
    seed: int,
) -> Method:  # fmt: skip
    """Candidates from random training images, the classes in turn."""
    scale, device = encoded.mean.std(dim=0), teacher.mean.device
    members = [torch.nonzero(encoded.labels == label).flatten() for label in range(len(teacher.classes))]

    def classify(raw_latents: Tensor) -> Tensor:
        images = space.decode_images(autoencoder, raw_latents, teacher.size, running)
        return teacher(((images + 1) / 2).clamp(0, 1))[0].float()

    def source(index: int) -> int:
        own = members[index % len(members)]
        return int(own[randomness.generator(seed, "crossing-source", index).integers(len(own))])

    def sample(indices: range) -> Candidates:
        rows = torch.tensor([source(index) for index in indices])
        noise = randomness.normal(seed, "crossing", indices, tuple(scale.shape))
        start, labels = encoded.mean[rows] + settings.sigma * scale * noise, encoded.labels[rows]
        moved = cross(
            start.to(device), labels.to(device), scale.to(device), classify, settings.stride, settings.most,
            settings.beyond,
        )  # fmt: skip
        with torch.no_grad():
            into = classify(moved).argmax(dim=1).cpu()
        way = ((moved.cpu() - encoded.mean[rows]) / scale).square().flatten(1).mean(dim=1).sqrt()
        return Candidates(moved.cpu(), torch.stack([labels, into], dim=1), way, rows)

    return sample


def main() -> None:
    settings, seed = params.read("crossing", Params), params.read("seed", int)
    if settings.count == 0:
        leave_out("crossing")
        return
    encoded, running = latents.load(LATENTS / "train.arrow"), params.read("encode", space.Running)
    device = pick_device()
    autoencoder = models.load(space.AnyAutoencoder, MODELS / "autoencoder").to(device)
    teacher = models.load(Classifier, MODELS / "teacher").to(device)
    inputs = fingerprint(LATENTS / "train.arrow", MODELS / "autoencoder", MODELS / "teacher")
    identity = {"settings": settings.model_dump(), "running": running.model_dump(), "seed": seed, "inputs": inputs}
    made = method(encoded, autoencoder, teacher, running, settings, seed)
    produce("crossing", made, settings.count, settings.batch, identity)
