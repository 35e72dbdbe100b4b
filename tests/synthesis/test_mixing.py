from collections import Counter

import pytest
import torch

from pipeline.settings.diffusion import MixupMode
from pipeline.synthesis import diffusion, mixing
from pipeline.synthesis.diffusion import denoise, make_scheduler
from pipeline.synthesis.randomness import normal
from pipeline.synthesis.unet import ConditionalUNet


@pytest.fixture(scope="module")
def model() -> ConditionalUNet:
    torch.manual_seed(0)
    return ConditionalUNet(classes=4, features=5, channels=2, size=4, widths=[8, 16]).eval().requires_grad_(False)


def sample(
    model: ConditionalUNet, parents: torch.Tensor, share: torch.Tensor, seed: int, mode: MixupMode = "mean",
    batch: int = 4, guidance: float = 1.0,
) -> torch.Tensor:  # fmt: skip
    found = []
    for start in range(0, len(parents), batch):
        own = range(start, min(start + batch, len(parents)))
        rows = slice(own.start, own.stop)
        predict = mixing.predictor(model, parents[rows], share[rows], mode, guidance)
        found.append(diffusion.sample(model, predict, "ddim", 3, seed, "mixup", own))
    return torch.cat(found)


def of_class(model: ConditionalUNet, label: int, noise: torch.Tensor) -> torch.Tensor:
    """Plain class-conditional sampling, written without the module under test."""
    embedding = model.embedding.weight[label].expand(len(noise), -1)
    return denoise(lambda x, t: model(x, t, embedding), noise, make_scheduler("ddim", model.noise_schedule), 3)


@pytest.mark.parametrize("mode", ["mean", "slerp", "score"])
def test_a_class_mixed_with_itself_is_that_class(model: ConditionalUNet, mode: MixupMode) -> None:
    parents, share = torch.full((3, 2), 2), torch.tensor([0.3, 0.5, 0.7])
    sampled = sample(model, parents, share, 7, mode)
    noise = normal(7, "mixup", range(3), (2, 4, 4))
    torch.testing.assert_close(sampled, of_class(model, 2, noise), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", ["sum", "mean", "slerp", "score"])
def test_the_batch_size_does_not_matter(model: ConditionalUNet, mode: MixupMode) -> None:
    parents, share = mixing.draw_parents(3, range(10), 4, 0.3, 0.7)
    by_four = sample(model, parents, share, 3, mode, batch=4)
    by_nine = sample(model, parents, share, 3, mode, batch=9)
    torch.testing.assert_close(by_four, by_nine, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", ["sum", "mean", "slerp", "score"])
def test_guidance_of_one_is_none_and_more_changes_the_sample(model: ConditionalUNet, mode: MixupMode) -> None:
    parents, share = torch.tensor([[0, 1], [2, 3]]), torch.tensor([0.4, 0.6])
    plain = sample(model, parents, share, 3, mode)
    guided = sample(model, parents, share, 3, mode, guidance=3.0)
    assert guided.isfinite().all() and (guided - plain).abs().max() > 1e-3


def test_each_sample_depends_on_its_own_pair(model: ConditionalUNet) -> None:
    """Guards against an embedding that is cached from the first pair and used for all."""
    share = torch.full((2,), 0.5)
    first = sample(model, torch.tensor([[0, 1], [0, 1]]), share, 3)
    second = sample(model, torch.tensor([[0, 1], [2, 3]]), share, 3)
    torch.testing.assert_close(first[0], second[0], atol=1e-5, rtol=1e-5)
    assert (first[1] - second[1]).abs().max() > 1e-3


def test_modes_by_hand() -> None:
    first, second = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    share = torch.tensor([0.25])
    torch.testing.assert_close(mixing.mix(first, second, share, "sum"), torch.tensor([[3.0, 1.0]]))
    torch.testing.assert_close(mixing.mix(first, second, share, "mean"), torch.tensor([[0.75, 0.75]]))
    # a quarter of the way from the second's direction to the first's, the norm a quarter of the way from 1 to 3
    angle = torch.tensor(torch.pi / 2 * 0.25)
    expected = 1.5 * torch.stack([angle.sin(), angle.cos()])[None]
    torch.testing.assert_close(mixing.mix(first, second, share, "slerp"), expected)


def test_slerp_of_equal_and_opposite_directions_is_finite() -> None:
    vector = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    share = torch.tensor([0.4])
    torch.testing.assert_close(mixing.mix(vector, vector, share, "slerp"), vector)
    assert mixing.mix(vector, -vector, share, "slerp").isfinite().all()


def test_parents_are_uniform_over_unordered_pairs() -> None:
    parents, share = mixing.draw_parents(0, range(3000), 4, 0.2, 0.6)
    counts = Counter(map(tuple, parents.tolist()))
    assert set(counts) == {(a, b) for a in range(4) for b in range(a + 1, 4)}
    assert all(abs(count - 500) < 5 * (500 * 5 / 6) ** 0.5 for count in counts.values())  # 5 sigma
    assert float(share.min()) >= 0.2 and float(share.max()) <= 0.6


def test_item_i_depends_on_seed_and_i_alone() -> None:
    parents, share = mixing.draw_parents(9, range(20), 5, 0, 1)
    later_parents, later_share = mixing.draw_parents(9, range(15, 20), 5, 0, 1)
    assert torch.equal(parents[15:], later_parents) and torch.equal(share[15:], later_share)
    whole, part = normal(9, "noise", range(20), (3, 2)), normal(9, "noise", [17], (3, 2))
    assert torch.equal(whole[17:18], part)
    assert not torch.equal(normal(9, "other", [17], (3, 2)), part)
