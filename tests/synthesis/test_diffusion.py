from pathlib import Path

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from pipeline.artifacts import models
from pipeline.synthesis import diffusion
from pipeline.synthesis.diffusion import ConditionalUNet


def test_saved_model_says_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ConditionalUNet(classes=3, channels=2, size=4, widths=[8, 16]).eval()
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
    again = models.load(ConditionalUNet, tmp_path)
    noisy, times, embeddings = torch.randn(2, 2, 4, 4), torch.tensor([3, 900]), torch.randn(2, 32)
    torch.testing.assert_close(again(noisy, times, embeddings), model(noisy, times, embeddings))


@pytest.mark.parametrize("name", ["dpm-solver++", "ddim"])
def test_samplers_recover_a_gaussian_from_its_exact_velocity(name: str) -> None:
    """For data N(m, s^2) the optimal v-prediction is known; the sampler must give back mean and deviation."""
    mean, std = 1.5, 0.5
    schedule = diffusion.noise_schedule()

    def exact(noisy: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        alpha = schedule.alphas_cumprod[times].view(-1, 1, 1, 1) ** 0.5
        sigma = (1 - alpha**2) ** 0.5
        data = mean + alpha * std**2 / (alpha**2 * std**2 + sigma**2) * (noisy - alpha * mean)
        noise = (noisy - alpha * data) / sigma
        return alpha * noise - sigma * data

    noise = torch.randn(4000, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    sampled = diffusion.denoise(exact, noise, diffusion.sampler(name, schedule), 30)
    assert float(sampled.mean()) == pytest.approx(mean, abs=0.05)
    assert float(sampled.std()) == pytest.approx(std, abs=0.05)


def test_samplers_belong_to_the_training_process() -> None:
    found = diffusion.sampler("dpm-solver++", diffusion.noise_schedule())
    assert isinstance(found, DPMSolverMultistepScheduler)
    assert found.config["prediction_type"] == "v_prediction"
    torch.testing.assert_close(found.alphas_cumprod, diffusion.noise_schedule().alphas_cumprod)


def test_a_perfect_model_has_no_loss() -> None:
    schedule = diffusion.noise_schedule()
    terms = diffusion.objective(schedule, seed=0)
    latents, labels = torch.randn(6, 2, 4, 4), torch.zeros(6, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(latents.shape, generator=generator)
    times = torch.randint(1000, (6,), generator=generator)

    class Oracle(torch.nn.Module):
        embedding = torch.nn.Embedding(1, 4)

        def forward(self, noisy: torch.Tensor, at: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
            assert torch.equal(at, times)
            return schedule.get_velocity(latents, noise, times)

    assert float(terms(Oracle(), (latents, labels))["velocity"]) == 0
