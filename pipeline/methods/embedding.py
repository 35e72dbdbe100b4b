"""Embedding outliers: boundary outliers of the teacher's feature space, whose latents a diffusion model draws.

After OAL (arXiv 2406.16525), which does not decode them; docs/papers.md has the differences. What lies at the edge of a
class for a classifier need not lie there for an autoencoder; a diffusion model turns such features into latents that
look like images.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

from pydantic import PositiveFloat, PositiveInt, model_validator

from pipeline.artifacts.revisions import check_revision
from pipeline.methods import Draw, Input, Inputs, MethodSettings
from pipeline.runtime.errors import UserError
from pipeline.settings.diffusion import SamplerName, SamplingSteps
from pipeline.settings.neighbourhood import NeighbourhoodSettings
from pipeline.settings.section import LocalPath

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.artifacts.candidates import Candidates
    from pipeline.synthesis.boundary import Outliers
    from pipeline.synthesis.safety import SafetyChecker
    from pipeline.synthesis.stable_diffusion import StableDiffusion

WEIGHTS = (  # what draws, of a Stable Diffusion pipeline
    "text_encoder/model.safetensors", "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
)  # fmt: skip
OWN_MODEL = "diffusion"  # the value of `generator` that stands for the model of the stage `diffusion`
Generator = Callable[["Outliers", range], "Tensor"]  # outlier vectors and their indices -> latents


class Settings(NeighbourhoodSettings, MethodSettings):
    """Where features are perturbed, and what draws the latents."""

    strength = "sigma of the noise, in standard deviations of the features"
    count: PositiveInt
    generator: LocalPath
    revision: str | None
    prompt: str
    sampler: SamplerName
    steps: SamplingSteps
    guidance: PositiveFloat
    batch: PositiveInt

    @property
    def reads(self) -> tuple[Input, ...]:
        return ("images", "teacher", "autoencoder", *(() if self.uses_stable_diffusion else ("diffusion",)))

    @property
    def uses_stable_diffusion(self) -> bool:
        """The generator is not the model of the stage `diffusion`."""
        return self.generator != OWN_MODEL

    def provenance(self) -> dict[str, Any] | None:
        """Of Stable Diffusion."""
        from pipeline.artifacts import provenance

        if not self.uses_stable_diffusion:
            return None
        return provenance.provenance(self.generator, self.revision, WEIGHTS, provenance.RESTRICTED)

    def safety_checker(self) -> "SafetyChecker | None":
        """The pipeline's own, where it has one."""
        if not self.uses_stable_diffusion:
            return None
        from pipeline.synthesis.safety import load

        return load(self.generator, self.revision)

    @model_validator(mode="after")
    def _prompt_has_a_place_for_the_class(self) -> Self:
        if self.uses_stable_diffusion and self.prompt.count("{}") != 1:
            raise ValueError(f"prompt is {self.prompt!r}, expected one {{}} for the class")
        return self


def own_generator(settings: Settings, inputs: Inputs) -> Generator:
    """The model of the stage `diffusion`, conditioned on the outlier features themselves."""
    from pipeline.synthesis import diffusion

    model = inputs.diffusion

    def generate(outliers: "Outliers", indices: range) -> "Tensor":
        condition = model.of_features(outliers.vectors.to(model.device))
        predict_noise = diffusion.conditioned(model, condition, settings.guidance)
        return diffusion.sample(
            model, predict_noise, settings.sampler, settings.steps, inputs.seed, "embedding", indices
        )

    return generate


def stable_diffusion(settings: Settings, inputs: Inputs) -> "StableDiffusion":
    """Stable Diffusion from a local folder or a pinned revision of a Hub repository."""
    if find_spec("transformers") is None:
        raise UserError(
            f"sample.embedding.generator {settings.generator!r}: needs `pip install penumbra[stable-diffusion]`"
        )
    from diffusers import StableDiffusionPipeline

    from pipeline.artifacts import models
    from pipeline.runtime.processes import pick_device
    from pipeline.synthesis.stable_diffusion import StableDiffusion

    check_revision(settings.generator, settings.revision)
    pipeline = models.load_pipeline(
        StableDiffusionPipeline, settings.generator, revision=settings.revision, use_safetensors=True,
        safety_checker=None, requires_safety_checker=False,
    )  # fmt: skip
    return StableDiffusion(
        pipeline.to(pick_device()), inputs.images.classes, settings.prompt, inputs.size, settings.steps,
        settings.guidance, settings.batch, inputs.seed,
    )  # fmt: skip


def vectors_and_generator(settings: Settings, inputs: Inputs) -> tuple["Tensor", Generator]:
    """The space to sample in, a vector for each training image, and what turns its vectors into latents."""
    from pipeline.classifier.networks import features_of
    from pipeline.synthesis.stable_diffusion import align

    features = features_of(inputs.teacher, inputs.images.pixels)
    if not settings.uses_stable_diffusion:
        return features, own_generator(settings, inputs)
    generator = stable_diffusion(settings, inputs)
    return align(features, inputs.images.labels, generator.tokens, inputs.seed), generator


def method(settings: Settings, inputs: Inputs) -> Draw:
    """Candidates: outlier vectors of the sampler, drawn by the generator."""
    from pipeline.artifacts.candidates import Candidates
    from pipeline.synthesis.autoencoder import to_raw_latents
    from pipeline.synthesis.boundary import Sampler

    vectors, generate = vectors_and_generator(settings, inputs)
    sampler = Sampler(vectors, inputs.images.labels, settings, inputs.seed, "embedding")

    def draw(indices: range) -> "Candidates":
        found = sampler.sample(indices)
        raw_latents = to_raw_latents(inputs.autoencoder, generate(found, indices))
        return Candidates.of_latents(raw_latents, found.labels[:, None].repeat(1, 2), found.sigma, found.source)

    return draw
