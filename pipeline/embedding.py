"""Sample outliers in the teacher's feature space and let a diffusion model draw their latents.

Reads: data/images/train.parquet, data/models/{teacher,autoencoder,diffusion}.
Writes: data/candidates/embedding.arrow.
Why: paper OAL (arXiv 2406.16525) as published. What lies at the edge of a class for a classifier need not lie there
for an autoencoder; a diffusion model turns such features into latents that look like images.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Self

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from pipeline.artifacts import images, models
from pipeline.artifacts.candidates import Candidates, Method, leave_out, produce
from pipeline.artifacts.images import ImageSet
from pipeline.classifier.networks import Classifier, features_of
from pipeline.runtime.errors import UserError
from pipeline.runtime.layout import IMAGES, MODELS
from pipeline.runtime.processes import pick_device
from pipeline.runtime.resumable import fingerprint
from pipeline.settings import params
from pipeline.synthesis import diffusion
from pipeline.synthesis.autoencoder import AnyAutoencoder, Autoencoder, to_raw_latents
from pipeline.synthesis.boundary import Outliers, Sampler, Sampling
from pipeline.synthesis.diffusion import SamplerName, SamplingSteps
from pipeline.synthesis.stable_diffusion import StableDiffusion, align

if TYPE_CHECKING:
    from pipeline.synthesis.unet import ConditionalUNet

OURS = "diffusion"  # the value of `generator` that stands for the model of the stage `diffusion`
Generator = Callable[[Outliers, range], Tensor]  # outlier vectors and their indices -> latents


class Params(Sampling):
    count: NonNegativeInt
    generator: params.LocalPath
    revision: str | None
    prompt: str
    sampler: SamplerName
    steps: SamplingSteps
    guidance: PositiveFloat
    batch: PositiveInt

    @property
    def uses_stable_diffusion(self) -> bool:
        """The generator is not this project's own, and outliers are to be made."""
        return self.count > 0 and self.generator != OURS

    @model_validator(mode="after")
    def _prompt_has_a_place_for_the_class(self) -> Self:
        if self.uses_stable_diffusion and self.prompt.count("{}") != 1:
            raise ValueError(f"prompt is {self.prompt!r}, expected one {{}} for the class")
        return self


def our_generator(model: "ConditionalUNet", settings: Params, seed: int) -> Generator:
    """Our own diffusion model, conditioned on the outlier features themselves."""

    def generate(outliers: Outliers, indices: range) -> Tensor:
        condition = model.of_features(outliers.vectors.to(model.device))
        predict_noise = diffusion.conditioned(model, condition, settings.guidance)
        return diffusion.sample(model, predict_noise, settings.sampler, settings.steps, seed, "embedding", indices)

    return generate


def stable_diffusion(settings: Params, classes: list[str], size: int, seed: int) -> StableDiffusion:
    """Stable Diffusion from a local folder or a pinned revision of a Hub repository."""
    if find_spec("transformers") is None:
        raise UserError(f"embedding.generator {settings.generator!r}: needs `pip install penumbra[stable-diffusion]`")
    from diffusers import StableDiffusionPipeline

    models.check_revision(settings.generator, settings.revision)
    pipeline = models.load_pipeline(
        StableDiffusionPipeline, settings.generator, revision=settings.revision, use_safetensors=True,
        safety_checker=None, requires_safety_checker=False,
    )  # fmt: skip
    return StableDiffusion(
        pipeline.to(pick_device()), classes, settings.prompt, size, settings.steps, settings.guidance,
        settings.batch, seed,
    )  # fmt: skip


def method(sampler: Sampler, generate: Generator, autoencoder: Autoencoder) -> Method:
    """Candidates: outlier vectors of the sampler, drawn by the generator."""

    def sample(indices: range) -> Candidates:
        found = sampler.sample(indices)
        raw_latents = to_raw_latents(autoencoder, generate(found, indices))
        return Candidates(raw_latents, found.labels[:, None].repeat(1, 2), found.sigma, found.source)

    return sample


def vectors_and_generator(
    train_set: ImageSet, teacher: Classifier, settings: Params, seed: int
) -> tuple[Tensor, Generator]:
    """The space to sample in, a vector for each training image, and what turns its vectors into latents."""
    features = features_of(teacher, train_set.pixels)
    if settings.generator == OURS:
        from pipeline.synthesis.unet import ConditionalUNet

        model = models.load(ConditionalUNet, MODELS / "diffusion").to(pick_device())
        return features, our_generator(model, settings, seed)
    generator = stable_diffusion(settings, train_set.classes, params.read("autoencoder.size", int), seed)
    return align(features, train_set.labels, generator.tokens, seed), generator


def main() -> None:
    settings, seed = params.read("embedding", Params), params.read("seed", int)
    if settings.count == 0:
        leave_out("embedding")
        return
    train_set = images.load_split(IMAGES, "train")
    teacher = models.load(Classifier, MODELS / "teacher").to(pick_device())
    vectors, generate = vectors_and_generator(train_set, teacher, settings, seed)
    sampler = Sampler(vectors, train_set.labels, settings, seed, "embedding")
    autoencoder = models.load(AnyAutoencoder, MODELS / "autoencoder")
    inputs = fingerprint(*(MODELS / name for name in ("teacher", "diffusion", "autoencoder")))
    identity = {"settings": settings.model_dump(), "seed": seed, "inputs": inputs}
    produce("embedding", method(sampler, generate, autoencoder), settings.count, settings.batch, identity)
