import pytest
import torch

from pipeline.methods import embedding
from pipeline.synthesis.boundary import Outliers
from pipeline.synthesis.diffusion import denoise, make_scheduler
from pipeline.synthesis.randomness import normal
from tests.methods.inputs import SmallInputs, check_any_part_is_that_of_the_whole


def settings(**changes: object) -> embedding.Settings:
    values = {
        "count": 12, "neighbours": 2, "anchors": 3, "perturbations": 5, "kept_per_anchor": 1, "sigmas": [1.0],
        "unit_sphere": False, "generator": "diffusion", "revision": None, "prompt": "{}", "sampler": "ddim", "steps": 3,
        "guidance": 1.0, "batch": 4,
    }  # fmt: skip
    return embedding.Settings.model_validate(values | changes)


def test_latents_are_sampled_under_the_outlier_features() -> None:
    inputs = SmallInputs()
    model = inputs.diffusion
    vectors = torch.randn(4, model.config["features"], generator=torch.Generator().manual_seed(1))
    wanted = Outliers(vectors, torch.zeros(4).long(), torch.ones(4), torch.zeros(4).long())
    found = embedding.own_generator(settings(), inputs)(wanted, range(4))
    condition = model.of_features(wanted.vectors)
    expected = denoise(
        lambda x, t: model(x, t, condition), normal(7, "embedding", range(4), (4, 8, 8)),
        make_scheduler("ddim", model.noise_schedule), 3,
    )  # fmt: skip
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm-solver++"])
def test_candidate_i_does_not_depend_on_the_batch(sampler: str) -> None:
    inputs = SmallInputs()
    draw = embedding.method(settings(sampler=sampler, guidance=2.0), inputs)
    whole = check_any_part_is_that_of_the_whole(draw, 12, tolerance=1e-3)
    assert torch.equal(inputs.images.labels[whole.source], whole.parents[:, 0])


def test_only_the_own_generator_reads_the_diffusion_model() -> None:
    assert "diffusion" in settings().reads
    assert "diffusion" not in settings(generator="runwayml/stable-diffusion-v1-5", prompt="a {}").reads
