import pytest
import torch
from torch import Tensor

from pipeline import crossing
from pipeline.artifacts.latents import Latents
from pipeline.classifier.networks import Classifier
from pipeline.synthesis import autoencoder as space
from pipeline.synthesis.crossing import cross

SCALE = torch.tensor([2.0, 0.5])


def by_side(vectors: Tensor) -> Tensor:
    """Class 0 left of 0 in the first dimension, class 1 right of it; the second one counts for nothing."""
    return torch.stack([-vectors[:, 0], vectors[:, 0]], dim=1)


def stop(x: float, label: int, stride: float, most: int, beyond: int) -> float:
    """One coordinate by hand: steps of `stride` out of the class, `beyond` of them from the far side."""
    past = 0
    for _ in range(most):
        past += past > 0 or (x > 0) != bool(label)
        if past > beyond:
            return x
        x += stride if label == 0 else -stride
    return x


@pytest.mark.parametrize("beyond", [0, 1, 3])
@pytest.mark.parametrize("most", [1, 5, 40])
def test_vectors_leave_their_class_and_stop_beyond(beyond: int, most: int) -> None:
    starts = [-3.05, -0.05, 0.45, 2.05, 9.05]  # two are on the wrong side already
    labels = torch.tensor([0, 0, 0, 1, 1])
    vectors = torch.stack([torch.tensor(starts), torch.arange(5.0)], dim=1)
    before = vectors.clone()
    found = cross(vectors, labels, SCALE, by_side, 0.1, most, beyond)
    expected = [stop(x, y, 0.2, most, beyond) for x, y in zip(starts, labels.tolist(), strict=True)]
    torch.testing.assert_close(found[:, 0], torch.tensor(expected), atol=1e-5, rtol=0)
    assert torch.equal(found[:, 1], vectors[:, 1])  # the sign of no gradient is none
    assert torch.equal(vectors, before)


def test_a_vector_alone_goes_where_it_goes_in_company() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors, labels = torch.randn(20, 2, generator=generator), torch.arange(20) % 2
    whole = cross(vectors, labels, SCALE, by_side, 0.1, 30, 2)
    alone = [cross(vectors[[i]], labels[[i]], SCALE, by_side, 0.1, 30, 2) for i in range(20)]
    assert torch.equal(torch.cat(alone), whole)


def test_candidates_do_not_depend_on_the_batch_and_leave_the_class_of_their_source() -> None:
    torch.manual_seed(0)
    autoencoder = space.small(1, 16, [8, 16], 4).eval().requires_grad_(False)
    teacher = Classifier("wrn-10-1", {"kind": "linear"}, ["a", "b"], 16, 1, [0.5], [0.3]).eval().requires_grad_(False)
    encoded = Latents([str(i) for i in range(30)], torch.arange(30) % 2, torch.randn(30, 4, 8, 8), torch.zeros(0))
    settings = crossing.Params(count=12, sigma=0.5, stride=0.5, most=10, beyond=1, batch=4)
    method = crossing.method(encoded, autoencoder, teacher, space.Running(batch=4, precision="float32"), settings, 7)
    whole = method(range(12))
    for rows in (range(5), range(5, 12)):
        for name, column in vars(method(rows)).items():
            torch.testing.assert_close(column, getattr(whole, name)[rows.start : rows.stop], atol=1e-3, rtol=1e-3)
    assert torch.equal(encoded.labels[whole.source], whole.parents[:, 0])
    assert torch.equal(whole.parents[:, 0], torch.arange(12) % 2)  # the classes in turn
    scale = encoded.mean.std(dim=0)
    way = ((whole.raw_latents - encoded.mean[whole.source]) / scale).flatten(1).norm(dim=1) / 256**0.5
    torch.testing.assert_close(whole.strength, way)
    decoded = space.decode_images(autoencoder, whole.raw_latents, 16, space.Running(batch=4, precision="float32"))
    seen = teacher(((decoded + 1) / 2).clamp(0, 1))[0].argmax(dim=1)
    assert torch.equal(seen, whole.parents[:, 1]) and bool((seen != whole.parents[:, 0]).any())
