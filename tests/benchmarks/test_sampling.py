"""Samplers of the label mixtures: seconds, and quality on plain classes, against the papers' ancestral loop.

`pytest tests/benchmarks/test_sampling.py --benchmark-only` after `dvc repro`. Quality is the Fréchet distance to
held-out ID images in the teacher's feature space and the teacher's class agreement, of decoded images.
"""

from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from pipeline.artifacts import images, models
from pipeline.classifier.networks import Classifier, predict
from pipeline.settings.encode import InferenceSettings
from pipeline.synthesis import autoencoder as space
from pipeline.synthesis import diffusion, mixing, quality
from pipeline.synthesis.diffusion import SamplerName
from pipeline.synthesis.unet import ConditionalUNet

DATA = Path("data")
COUNT = 250
pytestmark = pytest.mark.skipif(not (DATA / "models/diffusion").is_dir(), reason="needs the demo's models: dvc repro")


def sample(model: ConditionalUNet, labels: Tensor, name: SamplerName, steps: int) -> Tensor:
    predict_noise = mixing.predictor(model, labels[:, None].repeat(1, 2), torch.ones(len(labels)), "mean", 1.0)
    return diffusion.sample(model, predict_noise, name, steps, 0, "benchmark", range(len(labels)))


@pytest.mark.parametrize(
    ("name", "steps"),
    [("ddpm", 1000), ("ddim", 50), ("ddim", 20), ("dpm-solver++", 20), ("dpm-solver++", 10), ("dpm-solver++", 6)],
)
def test_sampler(benchmark: BenchmarkFixture, name: SamplerName, steps: int) -> None:
    model = models.load(ConditionalUNet, DATA / "models/diffusion")
    labels = torch.arange(COUNT) % model.config["classes"]
    latents = benchmark.pedantic(sample, (model, labels, name, steps), rounds=1)
    autoencoder = models.load(space.AnyAutoencoder, DATA / "models/autoencoder")
    held_out = images.load_split(DATA / "images", "val").pixels
    running = InferenceSettings(batch=COUNT, precision="float32")
    pixels = space.decode(autoencoder, space.to_raw_latents(autoencoder, latents), held_out.shape[-1], running)
    teacher = models.load(Classifier, DATA / "models/teacher")
    logits, features = predict(teacher, pixels, COUNT)
    distance = quality.frechet_distance(features, predict(teacher, held_out, COUNT)[1])
    benchmark.extra_info |= {"frechet": round(distance, 3), "agreement": round(quality.agreement(logits, labels), 1)}
    print(f"\n{name} {steps}: {benchmark.extra_info}")
    assert bool(latents.isfinite().all())
