"""A class-conditional diffusion model of latents, and its samplers."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional

from pipeline.learning.batches import shuffled

TRAIN_STEPS = 1000  # T of the forward process (DDPM, Ho et al. 2020)
Predict = Callable[[Tensor, Tensor], Tensor]  # noisy latents, timesteps -> prediction


class ConditionalUNet(ModelMixin, ConfigMixin):
    """A `UNet2DModel` that takes class embeddings, so that embeddings can be mixed before they go in.

    Args:
        classes: number of ID classes, each a learned embedding that is added to the time's.
        channels: of the latents.
        size: height and width of the latents.
        widths: channels at each resolution; attention at the lowest.
    """

    @register_to_config
    def __init__(self, classes: int, channels: int, size: int, widths: list[int]):
        super().__init__()
        self.embedding = nn.Embedding(classes, 4 * widths[0])
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


def noise_schedule() -> DDPMScheduler:
    """The forward process: cosine schedule, v-prediction (Salimans & Ho 2022), no clipping of latents.

    With epsilon prediction DPM-Solver++ divides by nearly zero at the first step of a cosine schedule.
    """
    return DDPMScheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
    )


def sampler(name: str, schedule: DDPMScheduler) -> DDIMScheduler | DPMSolverMultistepScheduler:
    """A deterministic sampler of the same process: `dpm-solver++` (Lu et al. 2022) or `ddim` (Song et al. 2021)."""
    if name == "ddim":
        return DDIMScheduler.from_config(schedule.config, clip_sample=False)
    return DPMSolverMultistepScheduler.from_config(schedule.config, lambda_min_clipped=-5.1)


def objective(schedule: DDPMScheduler, seed: int) -> Callable[[Any, tuple[Tensor, Tensor]], dict[str, Tensor]]:
    """Mean squared error of the predicted velocity at uniform times, for batches of (latents, labels)."""
    generator = torch.Generator().manual_seed(seed)

    def terms(model: Any, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        latents, labels = batch
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        times = torch.randint(TRAIN_STEPS, (len(latents),), generator=generator).to(latents.device)
        predicted = model(schedule.add_noise(latents, noise, times), times, model.embedding(labels))
        return {"velocity": functional.mse_loss(predicted.float(), schedule.get_velocity(latents, noise, times))}

    return terms


def latent_batches(mean: Tensor, std: Tensor, labels: Tensor, batch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of latents drawn from their posteriors, with labels.

    Args:
        mean, std: float32 (n, C, h, w), in the scale of the diffusion model.
        labels: int64 (n,), on the same device.
    """
    generator = torch.Generator().manual_seed(seed)
    for index in shuffled(len(mean), batch, seed):
        noise = torch.randn((batch, *mean.shape[1:]), generator=generator).to(mean.device)
        yield mean[index] + std[index] * noise, labels[index]


@torch.no_grad()
def denoise(
    predict: Predict, noise: Tensor, scheduler: DDIMScheduler | DPMSolverMultistepScheduler, steps: int
) -> Tensor:
    """Run a deterministic sampler from unit Gaussian `noise` (n, C, h, w) to latents."""
    scheduler.set_timesteps(steps, device=noise.device)
    latents = noise
    for time in scheduler.timesteps:
        prediction = predict(latents, time.expand(len(latents)))
        latents = scheduler.step(prediction, time, latents, return_dict=False)[0]
    return latents
