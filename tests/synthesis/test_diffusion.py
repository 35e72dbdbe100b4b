from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from pipeline.artifacts import models
from pipeline.synthesis import diffusion
from pipeline.synthesis.randomness import normal, torch_generators
from pipeline.synthesis.unet import ConditionalUNet


@pytest.fixture(scope="module")
def model() -> ConditionalUNet:
    torch.manual_seed(0)
    return ConditionalUNet(classes=3, features=5, channels=2, size=4, widths=[8, 16]).eval().requires_grad_(False)


def test_saved_model_says_the_same(model: ConditionalUNet, tmp_path: Path) -> None:
    model.feature_mean.fill_(2.5)
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
    again = models.load(ConditionalUNet, tmp_path)
    noisy, times, features = torch.randn(2, 2, 4, 4), torch.tensor([3, 900]), torch.randn(2, 5)
    torch.testing.assert_close(
        again(noisy, times, again.of_features(features)), model(noisy, times, model.of_features(features))
    )
    assert again.noise_schedule.config == model.noise_schedule.config


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("prediction", ["velocity", "epsilon"])
@pytest.mark.parametrize(("name", "steps"), [("dpm-solver++", 30), ("ddim", 100), ("ddpm", 1000)])
def test_samplers_recover_a_gaussian_from_its_exact_prediction(
    name: diffusion.SamplerName, steps: int, schedule: diffusion.Schedule, prediction: diffusion.Prediction
) -> None:
    """For data N(m, s^2) the optimal prediction is known; the sampler must give back mean and deviation."""
    mean, std, count = 1.5, 0.5, 300 if name == "ddpm" else 2000
    process = diffusion.noise_schedule(schedule, prediction)

    def exact(noisy: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        alpha = process.alphas_cumprod[times].view(-1, 1, 1, 1) ** 0.5
        sigma = (1 - alpha**2) ** 0.5
        data = mean + alpha * std**2 / (alpha**2 * std**2 + sigma**2) * (noisy - alpha * mean)
        noise = (noisy - alpha * data) / sigma
        return noise if prediction == "epsilon" else alpha * noise - sigma * data

    noise, generators = normal(0, "test", range(count), (1, 1, 1)), torch_generators(0, "steps", range(count))
    sampled = diffusion.denoise(exact, noise, diffusion.make_scheduler(name, process), steps, generators)
    assert float(sampled.mean()) == pytest.approx(mean, abs=0.08)
    assert float(sampled.std()) == pytest.approx(std, abs=0.08)


def test_clipping_bounds_the_estimate_of_the_clean_image_in_every_step() -> None:
    """A model that promises an image of 9: sampled as it says without a bound, at the bound with one."""
    process = diffusion.noise_schedule("linear", "epsilon")

    def promising(noisy: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        alpha = process.alphas_cumprod[times].view(-1, 1, 1, 1) ** 0.5
        return (noisy - alpha * 9) / (1 - alpha**2) ** 0.5

    def sampled(clip: float | None) -> torch.Tensor:
        noise, generators = normal(0, "test", range(20), (1, 2, 2)), torch_generators(0, "steps", range(20))
        sampler = diffusion.make_scheduler("ddpm", process, clip)
        return diffusion.denoise(promising, noise, sampler, 100, generators)

    assert float(sampled(None).mean()) == pytest.approx(9, abs=0.1)
    assert float(sampled(1.5).mean()) == pytest.approx(1.5, abs=0.1)
    assert not diffusion.make_scheduler("ddpm", process).config.clip_sample


def test_samplers_belong_to_the_training_process() -> None:
    found = diffusion.make_scheduler("dpm-solver++", diffusion.noise_schedule())
    assert isinstance(found, DPMSolverMultistepScheduler)
    assert found.config["prediction_type"] == "v_prediction"
    torch.testing.assert_close(found.alphas_cumprod, diffusion.noise_schedule().alphas_cumprod)


def test_ancestral_sampling_does_not_depend_on_the_batch(model: ConditionalUNet) -> None:
    condition = model.embedding(torch.tensor([0, 1, 2, 0]))

    def sample(rows: range) -> torch.Tensor:
        predict = diffusion.conditioned(model, condition[rows.start : rows.stop], 1)
        scheduler, noise = diffusion.make_scheduler("ddpm", model.noise_schedule), normal(3, "x", rows, model.shape)
        return diffusion.denoise(predict, noise, scheduler, 20, torch_generators(3, "x", rows))

    torch.testing.assert_close(sample(range(4))[2:], sample(range(2, 4)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
def test_guidance_goes_from_nothing_through_the_condition(model: ConditionalUNet, guidance: float) -> None:
    noisy, times, condition = torch.randn(2, 2, 4, 4), torch.tensor([5, 500]), model.embedding(torch.tensor([0, 2]))
    under, without = model(noisy, times, condition), model(noisy, times, model.of_nothing(2))
    found = diffusion.conditioned(model, condition, guidance)(noisy, times)
    torch.testing.assert_close(found, without + guidance * (under - without), atol=1e-5, rtol=1e-4)
    assert (under - without).abs().max() > 1e-4


def data() -> diffusion.TrainingData:
    generator = torch.Generator().manual_seed(4)
    mean = torch.randn(30, 2, 4, 4, generator=generator)
    return diffusion.TrainingData(mean, torch.full_like(mean, 0.1), torch.arange(30) % 3, mean.flatten(1)[:, :5])


def test_batches_have_the_shares_of_conditions_asked_for() -> None:
    batches = diffusion.latent_batches(data(), 400, feature_conditioning=0.3, condition_dropout=0.2, seed=0)
    found = [next(batches) for _ in range(10)]
    assert float(torch.cat([batch.feature_conditioned for batch in found]).double().mean()) == pytest.approx(
        0.3, abs=0.03
    )
    labels = torch.cat([batch.labels for batch in found])
    assert float((labels == 3).double().mean()) == pytest.approx(0.2, abs=0.03)
    for batch in found:  # latents, labels and features of an item belong together
        nearest = torch.cdist(batch.latents.flatten(1), data().mean.flatten(1)).argmin(dim=1)
        assert torch.equal(batch.features, data().features[nearest])
        named = batch.labels < 3
        assert torch.equal(batch.labels[named], data().labels[nearest[named]])


@pytest.mark.parametrize("prediction", ["velocity", "epsilon"])
def test_a_perfect_model_has_no_loss(prediction: diffusion.Prediction) -> None:
    schedule = diffusion.noise_schedule("cosine", prediction)
    batch = next(diffusion.latent_batches(data(), 6, 0.5, 0.1, seed=0))

    class Oracle(ConditionalUNet):
        def forward(self, noisy: torch.Tensor, at: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
            torch.testing.assert_close(noisy, schedule.add_noise(batch.latents, batch.noise, batch.times))
            assert torch.equal(at, batch.times)
            if prediction == "epsilon":
                return batch.noise
            return schedule.get_velocity(batch.latents, batch.noise, batch.times)

    terms = diffusion.objective(schedule)(Oracle(3, 5, 2, 4, [8]), batch)
    assert [float(value) for value in terms.values()] == [0]


def test_an_item_is_conditioned_on_its_features_or_its_class(model: ConditionalUNet) -> None:
    batch = next(diffusion.latent_batches(data(), 8, 0.5, 0.1, seed=0))
    seen = []

    class Spy(torch.nn.Module):
        embedding, of_features = model.embedding, model.of_features

        def forward(self, noisy: torch.Tensor, _: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
            seen.append(condition)
            return torch.zeros_like(noisy)

    diffusion.objective(model.noise_schedule)(Spy(), batch)
    for i in range(8):
        by_features = model.of_features(batch.features[i : i + 1])[0]
        expected = by_features if batch.feature_conditioned[i] else model.embedding.weight[batch.labels[i]]
        torch.testing.assert_close(seen[0][i], expected)


MEAN, DEVIATION = 0.7, 0.6  # of the Gaussian that the exact denoiser knows


def exact_denoiser(schedule: Any) -> diffusion.Predict:
    """What a perfect network says where every value of the data is an independent Gaussian."""
    alphas = schedule.alphas_cumprod

    def predict(noisy: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        alpha = alphas[times].view(-1, 1, 1, 1)
        gain = alpha.sqrt() * DEVIATION**2 / (alpha * DEVIATION**2 + 1 - alpha)
        clean = MEAN + gain * (noisy - alpha.sqrt() * MEAN)
        noise = (noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        if schedule.config.prediction_type == "epsilon":
            return noise
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * clean

    return predict


def ddim_by_hand(alphas: np.ndarray, steps: int) -> tuple[float, float]:
    """Mean and deviation that DDIM ends with, from unit noise at the last timestep: each step is linear."""
    times = np.round(len(alphas) - np.arange(steps) * len(alphas) / steps).astype(int) - 1
    mean, deviation = 0.0, 1.0
    for now, after in zip(alphas[times], [*alphas[times[1:]], 1.0], strict=True):
        gain = now**0.5 * DEVIATION**2 / (now * DEVIATION**2 + 1 - now)
        # clean = MEAN + gain (x - sqrt(now) MEAN); the next x is sqrt(after) clean + sqrt(1 - after) noise
        offset, slope = MEAN * (1 - gain * now**0.5), gain
        noise_offset, noise_slope = (-(now**0.5) * offset, 1 - now**0.5 * slope)
        scale = (1 - after) ** 0.5 / (1 - now) ** 0.5
        mean = after**0.5 * (offset + slope * mean) + scale * (noise_offset + noise_slope * mean)
        deviation = abs(after**0.5 * slope + scale * noise_slope) * deviation
    return mean, deviation


@pytest.mark.parametrize("schedule_name", ["cosine", "linear"])
@pytest.mark.parametrize("prediction", ["velocity", "epsilon"])
@pytest.mark.parametrize("steps", [4, 8, 20, 50])  # they divide the timesteps; where not, diffusers' stride is short
def test_ddim_of_an_exact_denoiser_has_the_moments_of_its_recursion(
    schedule_name: Any, prediction: Any, steps: int
) -> None:
    schedule = diffusion.noise_schedule(schedule_name, prediction)
    noise = torch.randn(2000, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    noise = (noise - noise.mean()) / noise.std()
    found = diffusion.denoise(exact_denoiser(schedule), noise, diffusion.make_scheduler("ddim", schedule), steps)
    mean, deviation = ddim_by_hand(schedule.alphas_cumprod.double().numpy(), steps)
    assert float(found.mean()) == pytest.approx(mean, abs=2e-3)
    assert float(found.std()) == pytest.approx(deviation, abs=2e-3)
    assert mean == pytest.approx(MEAN, abs=0.02)  # whatever the number of steps; the deviation needs many


@pytest.mark.parametrize(("steps", "lost"), [(6, 0.13), (10, 0.04), (20, 0.01), (50, 0.01)])
def test_few_steps_of_dpm_solver_lose_some_of_the_deviation(steps: int, lost: float) -> None:
    """What docs/scale.md says beside the sampler table."""
    schedule = diffusion.noise_schedule()
    noise = torch.randn(2000, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    sampler = diffusion.make_scheduler("dpm-solver++", schedule)
    found = diffusion.denoise(exact_denoiser(schedule), noise, sampler, steps)
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.02)
    assert 1 - float(found.std()) / DEVIATION == pytest.approx(lost, abs=0.02)
