"""The fast network: its whitening against a covariance computed here, its start, its shapes and its refusals."""

import pytest
import torch
from torch.nn import functional

from pipeline.classifier.fast_cnn import EPSILON, FastCnn
from pipeline.classifier.networks import backbone
from pipeline.runtime.errors import UserError


@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_layer_whitens_patches(channels: int) -> None:
    torch.manual_seed(0)
    images = functional.avg_pool2d(torch.randn(64, channels, 24, 24), 3, stride=1)  # neighbours are alike
    network = FastCnn(channels)
    network.measure(images)
    count = 4 * channels
    with torch.no_grad():
        found = network.whiten(images).transpose(0, 1).flatten(1)
    assert torch.equal(found[:count], -found[count:])
    centred = found[:count].double() - found[:count].double().mean(dim=1, keepdim=True)
    covariance = centred @ centred.T / centred.shape[1]
    patches = functional.unfold(images.double(), 2).transpose(1, 2).flatten(0, 1)
    variances = torch.linalg.eigvalsh(torch.cov(patches.T, correction=0)).flip(0)
    torch.testing.assert_close(covariance, (variances / (variances + EPSILON)).diag(), rtol=0, atol=1e-4)


def test_the_whitening_is_not_trained() -> None:
    network = FastCnn(3)
    trained = {name for name, weight in network.named_parameters() if weight.requires_grad}
    assert "whiten.weight" not in trained and "whiten.bias" in trained


@pytest.mark.parametrize("size", [9, 16, 32, 64])
def test_shapes(size: int) -> None:
    network = backbone("fast-cnn", 3, size).eval()
    assert network(torch.rand(2, 3, size, size)).shape == (2, network.num_features) == (2, 256)


def test_too_small_images_are_refused() -> None:
    with pytest.raises(UserError, match="fast-cnn: images of 8 pixels; expected at least 9"):
        backbone("fast-cnn", 1, 8)


def test_a_group_hands_on_what_it_is_given_at_the_start() -> None:
    convolution = FastCnn(3).groups[0][0]
    images = torch.rand(1, 24, 8, 8)
    torch.testing.assert_close(convolution(images)[:, :24], images)


def test_shifts_learn_64_times_as_fast_and_scales_never() -> None:
    torch.manual_seed(0)
    network, images = FastCnn(3), torch.rand(8, 3, 12, 12)
    norm = network.groups[2][5]
    seen: list[torch.Tensor] = []
    norm.register_full_backward_hook(lambda module, into, out: seen.append(out[0]))
    before = norm.bias.detach().clone()
    optimiser = torch.optim.SGD([weight for weight in network.parameters() if weight.requires_grad], 0.01)
    network(images).square().sum().backward()
    optimiser.step()
    [slope] = seen
    torch.testing.assert_close(norm.bias.detach(), before - 64 * 0.01 * slope.sum(dim=(0, 2, 3)))
    assert norm.weight.grad is None and norm.weight.eq(1).all()
