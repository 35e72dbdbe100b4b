import pytest
import torch
from torch import Tensor

from pipeline.methods import boundary_crossing
from pipeline.methods.boundary_crossing import cross
from tests.methods.inputs import SmallInputs, check_any_part_is_that_of_the_whole

SCALE = torch.tensor([2.0, 0.5])


def settings(**changes: object) -> boundary_crossing.Settings:
    values = {"count": 1, "sigma": 0.5, "step_size": 0.1, "max_steps": 5, "extra_steps": 0, "batch": 4}
    return boundary_crossing.Settings.model_validate(values | changes)


def by_side(vectors: Tensor) -> Tensor:
    """Class 0 left of 0 in the first dimension, class 1 right of it; the second one counts for nothing."""
    return torch.stack([-vectors[:, 0], vectors[:, 0]], dim=1)


def stop(x: float, label: int, step: float, most: int, extra: int) -> float:
    """One coordinate by hand: steps of `step` out of the class, `extra_steps` of them from the far side."""
    past = 0
    for _ in range(most):
        past += past > 0 or (x > 0) != bool(label)
        if past > extra:
            return x
        x += step if label == 0 else -step
    return x


@pytest.mark.parametrize("extra", [0, 1, 3])
@pytest.mark.parametrize("most", [1, 5, 40])
def test_vectors_leave_their_class_and_stop_extra(extra: int, most: int) -> None:
    starts = [-3.05, -0.05, 0.45, 2.05, 9.05]  # two are on the wrong side already
    labels = torch.tensor([0, 0, 0, 1, 1])
    vectors = torch.stack([torch.tensor(starts), torch.arange(5.0)], dim=1)
    before = vectors.clone()
    found = cross(vectors, labels, SCALE, by_side, settings(max_steps=most, extra_steps=extra))
    expected = [stop(x, y, 0.2, most, extra) for x, y in zip(starts, labels.tolist(), strict=True)]
    torch.testing.assert_close(found[:, 0], torch.tensor(expected), atol=1e-5, rtol=0)
    assert torch.equal(found[:, 1], vectors[:, 1])  # the sign of no gradient is none
    assert torch.equal(vectors, before)


def test_a_vector_alone_goes_where_it_goes_in_company() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors, labels = torch.randn(20, 2, generator=generator), torch.arange(20) % 2
    whole = cross(vectors, labels, SCALE, by_side, settings(max_steps=30, extra_steps=2))
    alone = [cross(vectors[[i]], labels[[i]], SCALE, by_side, settings(max_steps=30, extra_steps=2)) for i in range(20)]
    assert torch.equal(torch.cat(alone), whole)


def test_candidates_leave_the_class_of_their_source() -> None:
    inputs = SmallInputs()
    draw = boundary_crossing.method(settings(count=12, step_size=0.5, max_steps=10, extra_steps=1), inputs)
    whole = check_any_part_is_that_of_the_whole(draw, 12, tolerance=1e-3)
    latents = inputs.latents
    assert torch.equal(latents.labels[whole.source], whole.parents[:, 0])
    assert torch.equal(whole.parents[:, 0], torch.arange(12) % 3)  # the classes in turn
    scale = latents.mean.std(dim=0)
    way = ((whole.values - latents.mean[whole.source]) / scale).flatten(1).norm(dim=1) / 256**0.5
    torch.testing.assert_close(whole.strength, way)
    seen = inputs.teacher(((inputs.decode_images(whole.values) + 1) / 2).clamp(0, 1))[0].argmax(dim=1)
    assert torch.equal(seen, whole.parents[:, 1]) and bool((seen != whole.parents[:, 0]).any())
