from types import SimpleNamespace

import pytest
import torch

from pipeline import embedding
from pipeline.synthesis.boundary import Outliers, Sampler
from pipeline.synthesis.diffusion import denoise, make_scheduler
from pipeline.synthesis.randomness import normal
from pipeline.synthesis.unet import ConditionalUNet


@pytest.fixture(scope="module")
def model() -> ConditionalUNet:
    torch.manual_seed(0)
    return ConditionalUNet(classes=3, features=5, channels=2, size=4, widths=[8, 16]).eval().requires_grad_(False)


def settings(**changes: object) -> embedding.Params:
    values = {
        "count": 12, "neighbours": 2, "anchors": 3, "draws": 5, "keep": 1, "sigmas": [1.0], "unit_sphere": False,
        "generator": "diffusion", "revision": None, "prompt": "{}", "sampler": "ddim", "steps": 3, "guidance": 1.0,
        "batch": 4,
    }  # fmt: skip
    return embedding.Params.model_validate(values | changes)


def outliers(count: int) -> Outliers:
    vectors = torch.randn(count, 5, generator=torch.Generator().manual_seed(1))
    return Outliers(vectors, torch.zeros(count).long(), torch.ones(count), torch.zeros(count).long())


def test_latents_are_sampled_under_the_outlier_features(model: ConditionalUNet) -> None:
    wanted = outliers(4)
    found = embedding.our_generator(model, settings(), 7)(wanted, range(4))
    condition = model.of_features(wanted.vectors)
    expected = denoise(
        lambda x, t: model(x, t, condition), normal(7, "embedding", range(4), (2, 4, 4)),
        make_scheduler("ddim", model.noise_schedule), 3,
    )  # fmt: skip
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm-solver++"])
def test_candidate_i_does_not_depend_on_the_batch(model: ConditionalUNet, sampler: str) -> None:
    features, labels = torch.randn(30, 5, generator=torch.Generator().manual_seed(3)), torch.arange(30) % 3
    chosen = settings(sampler=sampler, guidance=2.0)
    autoencoder = SimpleNamespace(config=SimpleNamespace(scaling_factor=0.5))
    sampled = embedding.method(
        Sampler(features, labels, chosen, 7, "embedding"), embedding.our_generator(model, chosen, 7), autoencoder
    )
    whole = sampled(range(12))
    for rows in (range(5), range(5, 12), range(11, 12)):
        part = sampled(rows)
        for name, column in vars(part).items():
            torch.testing.assert_close(column, getattr(whole, name)[rows.start : rows.stop], atol=1e-4, rtol=1e-4)
    assert torch.equal(labels[whole.source], whole.parents[:, 0])
