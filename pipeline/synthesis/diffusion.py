"""A conditional diffusion model of latents, and its samplers."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pipeline.learning.batches import shuffled
from pipeline.synthesis.randomness import normal, torch_generators

TRAIN_STEPS = 1000  # T of the forward process (DDPM, Ho et al. 2020)
SamplingSteps = Annotated[int, Field(ge=1, le=TRAIN_STEPS)]
Schedule = Literal["cosine", "linear"]
Prediction = Literal["velocity", "epsilon"]
SamplerName = Literal["ddpm", "ddim", "dpm-solver++"]
Sampler: TypeAlias = DDPMScheduler | DDIMScheduler | DPMSolverMultistepScheduler
Predict = Callable[[Tensor, Tensor], Tensor]  # noisy latents, timesteps -> prediction


class ConditionalUNet(ModelMixin, ConfigMixin):
    """A `UNet2DModel` that takes its condition as an embedding, so that conditions can be mixed before they go in.

    One model serves every method: its condition is a class, features of the teacher, or nothing.

    Args:
        classes: number of ID classes, each a learned embedding that is added to the time's.
        features: dimensions of the teacher's features.
        channels: of the latents.
        size: height and width of the latents.
        widths: channels at each resolution; attention at the lowest.
        schedule, prediction: see `noise_schedule`.
    """

    @register_to_config
    def __init__(
        self,
        classes: int,
        features: int,
        channels: int,
        size: int,
        widths: list[int],
        schedule: Schedule = "cosine",
        prediction: Prediction = "velocity",
    ):
        super().__init__()
        width = 4 * widths[0]
        self.embedding = nn.Embedding(classes + 1, width)  # the last row stands for no condition
        self.projection = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))
        self.feature_mean: Tensor
        self.feature_std: Tensor
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_std", torch.ones(features))
        levels = len(widths) - 1
        self.unet = UNet2DModel(
            sample_size=size,
            in_channels=channels,
            out_channels=channels,
            layers_per_block=1,
            block_out_channels=tuple(widths),
            down_block_types=("DownBlock2D",) * levels + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * levels,
            norm_num_groups=8,
            class_embed_type="identity",
        )

    def forward(self, noisy: Tensor, timesteps: Tensor, embeddings: Tensor) -> Tensor:
        """(n, C, h, w), (n,), (n, 4 * widths[0]) to a prediction (n, C, h, w)."""
        return self.unet(noisy, timesteps, class_labels=embeddings).sample

    def of_features(self, features: Tensor) -> Tensor:
        """The condition of features (n, d) of the teacher."""
        return self.projection((features - self.feature_mean) / self.feature_std)

    def of_nothing(self, count: int) -> Tensor:
        """`count` times the condition that says nothing."""
        return self.embedding.weight[-1].expand(count, -1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one latent."""
        return self.config["channels"], self.config["size"], self.config["size"]

    @property
    def noise_schedule(self) -> DDPMScheduler:
        """The forward process the model was trained for."""
        return noise_schedule(self.config["schedule"], self.config["prediction"])


def noise_schedule(schedule: Schedule = "cosine", prediction: Prediction = "velocity") -> DDPMScheduler:
    """The forward process: T = 1000, no clipping of latents.

    Args:
        schedule: `cosine` (Nichol & Dhariwal 2021) or `linear`, 1e-4 to 0.02 (Ho et al. 2020).
        prediction: `velocity` (Salimans & Ho 2022) or `epsilon`, the noise (Ho et al. 2020).
    """
    return DDPMScheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_schedule={"cosine": "squaredcos_cap_v2", "linear": "linear"}[schedule],
        prediction_type={"velocity": "v_prediction", "epsilon": "epsilon"}[prediction],
        clip_sample=False,
    )


def make_scheduler(name: SamplerName, schedule: DDPMScheduler) -> Sampler:
    """A sampler of the same process.

    Args:
        name: `ddpm`, ancestral and the papers' own (Ho et al. 2020); `ddim` (Song et al. 2021) and `dpm-solver++`
            (Lu et al. 2022) are deterministic and need far fewer steps.
    """
    if name == "ddpm":
        return DDPMScheduler.from_config(schedule.config)
    if name == "ddim":
        return DDIMScheduler.from_config(schedule.config, clip_sample=False)
    # the cosine schedule's first steps divide by nearly zero: start where the signal is above the noise's rounding
    return DPMSolverMultistepScheduler.from_config(schedule.config, lambda_min_clipped=-5.1)


class Batch(NamedTuple):
    """What one training step sees; all that is random in it was drawn by `latent_batches`.

    Latents and noise (n, C, h, w), times (n,), labels (n,) where one past the last class says nothing, features
    (n, d), and for each item whether it is conditioned on them (n,) bool.
    """

    latents: Tensor
    noise: Tensor
    times: Tensor
    labels: Tensor
    features: Tensor
    by_features: Tensor


def objective(schedule: DDPMScheduler) -> Callable[[Any, Batch], dict[str, Tensor]]:
    """Mean squared error of the predicted velocity or noise."""

    def terms(model: Any, batch: Batch) -> dict[str, Tensor]:
        noisy = schedule.add_noise(batch.latents, batch.noise, batch.times)
        condition = torch.where(
            batch.by_features[:, None], model.of_features(batch.features), model.embedding(batch.labels)
        )
        predicted = model(noisy, batch.times, condition).float()
        if schedule.config.prediction_type == "epsilon":
            return {"noise": functional.mse_loss(predicted, batch.noise)}
        return {
            "velocity": functional.mse_loss(predicted, schedule.get_velocity(batch.latents, batch.noise, batch.times))
        }

    return terms


class TrainingData(NamedTuple):
    """ID latents in the scale of the diffusion model, mean and std (n, C, h, w), labels (n,) and features (n, d)."""

    mean: Tensor
    std: Tensor
    labels: Tensor
    features: Tensor


def latent_batches(
    data: TrainingData, batch: int, by_features: float, unconditional: float, seed: int
) -> Iterator[Batch]:
    """Endless batches of latents drawn from their posteriors.

    Args:
        by_features: share of the items, 0..1, conditioned on the teacher's features in place of the class.
        unconditional: share of the others, 0..1, conditioned on nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    device, nothing = data.mean.device, data.labels.max() + 1
    for index in shuffled(len(data.mean), batch, seed):
        index = index.to(device)
        draw, noise = torch.randn((2, batch, *data.mean.shape[1:]), generator=generator).to(device)
        times = torch.randint(TRAIN_STEPS, (batch,), generator=generator).to(device)
        kind = torch.rand((2, batch), generator=generator).to(device)
        labels = torch.where(kind[1] < unconditional, nothing, data.labels[index])
        latents = data.mean[index] + data.std[index] * draw
        yield Batch(latents, noise, times, labels, data.features[index], kind[0] < by_features)


def conditioned(model: ConditionalUNet, embeddings: Tensor, guidance: float) -> Predict:
    """The model's prediction under a condition (n, d), with classifier-free guidance (Ho & Salimans 2021).

    Args:
        guidance: 1 for none; otherwise nothing + guidance * (condition - nothing), both in one batch.
    """
    if guidance == 1:
        return lambda noisy, times: model(noisy, times, embeddings)
    both = torch.cat([embeddings, model.of_nothing(len(embeddings))])

    def guided(noisy: Tensor, times: Tensor) -> Tensor:
        under, without = model(noisy.repeat(2, 1, 1, 1), times.repeat(2), both).chunk(2)
        return without + guidance * (under - without)

    return guided


@torch.no_grad()
def denoise(
    predict: Predict, noise: Tensor, scheduler: Sampler, steps: int, generators: list[torch.Generator] | None = None
) -> Tensor:
    """Run a sampler from unit Gaussian `noise` (n, C, h, w) to latents.

    Args:
        generators: one for each of the n, for the noise that `ddpm` adds at every step.
    """
    scheduler.set_timesteps(steps, device=noise.device)
    latents = noise
    for time in scheduler.timesteps:
        prediction = predict(latents, time.expand(len(latents)))
        latents = scheduler.step(prediction, time, latents, generator=generators, return_dict=False)[0]
    return latents


def sample(
    model: ConditionalUNet, predict: Predict, name: SamplerName, steps: int, seed: int, stream: str, indices: range
) -> Tensor:
    """Latents float32 (n, C, h, w) on the CPU; item i depends on its condition and (seed, stream, i) alone."""
    noise = normal(seed, stream, indices, model.shape).to(model.device)
    generators = torch_generators(seed, stream, indices)
    return denoise(predict, noise, make_scheduler(name, model.noise_schedule), steps, generators).cpu()
