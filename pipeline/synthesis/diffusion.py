"""A conditional diffusion model of latents, and its samplers.

diffusers takes longer to import than torch: what makes a scheduler imports it, when it is called.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.settings.diffusion import TRAIN_STEPS, Prediction, SamplerName, Schedule
from pipeline.synthesis.randomness import normal, torch_generators
from pipeline.training.batches import shuffled

if TYPE_CHECKING:
    from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

    from pipeline.synthesis.unet import ConditionalUNet

Sampler: TypeAlias = "DDPMScheduler | DDIMScheduler | DPMSolverMultistepScheduler"
Predict = Callable[[Tensor, Tensor], Tensor]  # noisy latents, timesteps -> prediction


def noise_schedule(schedule: Schedule = "cosine", prediction: Prediction = "velocity") -> "DDPMScheduler":
    """The forward process: T = 1000, no clipping of latents.

    Args:
        schedule: `cosine` (Nichol & Dhariwal 2021) or `linear`, 1e-4 to 0.02 (Ho et al. 2020).
        prediction: `velocity` (Salimans & Ho 2022) or `epsilon`, the noise (Ho et al. 2020).
    """
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_schedule={"cosine": "squaredcos_cap_v2", "linear": "linear"}[schedule],
        prediction_type={"velocity": "v_prediction", "epsilon": "epsilon"}[prediction],
        clip_sample=False,
    )


def make_scheduler(name: SamplerName, schedule: "DDPMScheduler", clip: float | None = None) -> Sampler:
    """A sampler of the same process.

    Args:
        name: `ddpm`, ancestral and the papers' own (Ho et al. 2020); `ddim` (Song et al. 2021) and `dpm-solver++`
            (Lu et al. 2022) are deterministic and need far fewer steps.
        clip: largest size of the estimated clean latents in every step, as in Ho et al. 2020; for `ddpm` alone.
    """
    from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

    if name == "ddpm":
        clipping = {"clip_sample": True, "clip_sample_range": clip} if clip else {}
        return DDPMScheduler.from_config(schedule.config, **clipping)
    if name == "ddim":  # from the last timestep on: few steps would begin with noise where there is signal already
        return DDIMScheduler.from_config(schedule.config, clip_sample=False, timestep_spacing="trailing")
    # the cosine schedule's first steps divide by nearly zero: start where the signal is above the noise's rounding
    return DPMSolverMultistepScheduler.from_config(schedule.config, lambda_min_clipped=-5.1)


class LatentBatch(NamedTuple):
    """What one training step sees; all that is random in it was drawn by `latent_batches`.

    Latents and noise (n, C, h, w), times (n,), labels (n,) where one past the last class says nothing, features
    (n, d), and for each item whether it is conditioned on them (n,) bool.
    """

    latents: Tensor
    noise: Tensor
    times: Tensor
    labels: Tensor
    features: Tensor
    feature_conditioned: Tensor


def objective(schedule: "DDPMScheduler") -> Callable[[Any, LatentBatch], dict[str, Tensor]]:
    """Mean squared error of the predicted velocity or noise."""

    def terms(model: Any, batch: LatentBatch) -> dict[str, Tensor]:
        noisy = schedule.add_noise(batch.latents, batch.noise, batch.times)
        condition = torch.where(
            batch.feature_conditioned[:, None], model.of_features(batch.features), model.embedding(batch.labels)
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
    data: TrainingData, batch: int, feature_conditioning: float, condition_dropout: float, seed: int
) -> Iterator[LatentBatch]:
    """Endless batches of latents drawn from their posteriors.

    Args:
        feature_conditioning: share of the items, 0..1, conditioned on the teacher's features in place of the class.
        condition_dropout: share of the others, 0..1, conditioned on nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    device, nothing = data.mean.device, data.labels.max() + 1
    for index in shuffled(len(data.mean), batch, seed):
        index = index.to(device)
        draw, noise = torch.randn((2, batch, *data.mean.shape[1:]), generator=generator).to(device)
        times = torch.randint(TRAIN_STEPS, (batch,), generator=generator).to(device)
        kind = torch.rand((2, batch), generator=generator).to(device)
        labels = torch.where(kind[1] < condition_dropout, nothing, data.labels[index])
        latents = data.mean[index] + data.std[index] * draw
        yield LatentBatch(latents, noise, times, labels, data.features[index], kind[0] < feature_conditioning)


def conditioned(model: "ConditionalUNet", embeddings: Tensor, guidance: float) -> Predict:
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
    model: "ConditionalUNet", predict: Predict, name: SamplerName, steps: int, seed: int, stream: str, indices: range,
    clip: float | None = None,
) -> Tensor:  # fmt: skip
    """Latents float32 (n, C, h, w) on the CPU; item i depends on its condition and (seed, stream, i) alone.

    Args:
        clip: see `make_scheduler`.
    """
    noise = normal(seed, stream, indices, model.shape).to(model.device)
    generators = torch_generators(seed, stream, indices)
    return denoise(predict, noise, make_scheduler(name, model.noise_schedule, clip), steps, generators).cpu()
