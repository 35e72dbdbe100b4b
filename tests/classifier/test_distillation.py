from types import SimpleNamespace
from typing import Literal, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from pipeline.classifier.distillation import FeatureDistillationTerm, logit_distillation
from pipeline.classifier.terms import Context, Step
from pipeline.runtime.errors import UserError
from pipeline.settings.recipes import FeatureDistillation
from pipeline.training.loaders import Batch

Loss = Literal["mse", "residual", "kl"]


def term(width: int, teacher_width: int, loss: Loss = "mse") -> FeatureDistillationTerm:
    weight = torch.randn(3, teacher_width, generator=torch.Generator().manual_seed(0))
    teacher = SimpleNamespace(head=SimpleNamespace(weight=weight))
    return FeatureDistillationTerm(FeatureDistillation(weight=1.0, loss=loss), Context(width, teacher))


def step(features: torch.Tensor, seen: torch.Tensor) -> Step:
    """A step of ID images whose student has these features, and whose teacher those."""
    images, logits = torch.zeros(len(features), 1, 2, 2), torch.zeros(len(features), 3)
    return Step(Batch(images, torch.zeros(len(features)).long()), logits, features, lambda images: (logits, seen))


def test_logit_distillation_costs_exactly_nothing_where_student_equals_teacher() -> None:
    logits = 30 * torch.randn(8, 5)
    assert float(logit_distillation(logits, logits.clone(), 2.0)) == 0.0


@settings(max_examples=30, deadline=None)
@given(st.floats(0.5, 8), st.integers(0, 2**31))
def test_logit_distillation_is_the_softened_kl(temperature: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(4, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    p, q = (teacher / temperature).softmax(dim=1), (student / temperature).softmax(dim=1)
    expected = temperature**2 * (p * (p / q).log()).sum(dim=1).mean()
    assert float(logit_distillation(student, teacher, temperature)) == pytest.approx(
        float(expected), rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("loss", get_args(Loss))
def test_features_cost_exactly_nothing_where_student_equals_teacher(loss: Loss) -> None:
    features = torch.randn(8, 16)
    assert float(term(16, 16, loss)(step(features, features.clone()))) == 0.0


def test_feature_distillation_by_kl_is_that_of_the_softmaxes_of_features() -> None:
    own, features, seen = term(4, 6, "kl"), torch.randn(10, 4), 3 * torch.randn(10, 6)
    with torch.no_grad():
        own.projector.weight.normal_()
    projected = torch.stack([own.projector.weight @ row for row in features])
    p, q = softmax(seen.numpy(), axis=1), softmax(projected.detach().numpy(), axis=1)
    assert float(own(step(features, seen)).detach()) == pytest.approx((p * np.log(p / q)).sum() / 10, rel=1e-5)


def test_feature_distillation_is_the_relative_squared_error_of_a_projection() -> None:
    own, features, seen = term(4, 6), torch.randn(10, 4), 100 * torch.randn(10, 6)
    with torch.no_grad():
        own.projector.weight.normal_()
    projected = torch.stack([own.projector.weight @ row for row in features])
    expected = ((projected - seen) ** 2).mean() / (seen**2).mean()
    torch.testing.assert_close(own(step(features, seen)), expected)


def test_the_residual_is_what_is_orthogonal_to_the_classes_of_the_teacher() -> None:
    own, features, seen = term(6, 6, "residual"), torch.randn(10, 6), 5 * torch.randn(10, 6)
    weight = torch.randn(3, 6, generator=torch.Generator().manual_seed(0)).double().numpy()
    outside = np.eye(6) - np.linalg.pinv(weight) @ weight
    student, teacher = (part.double().numpy() @ outside for part in (features, seen))
    expected = ((student - teacher) ** 2).mean() / (teacher**2).mean()
    assert float(own(step(features, seen)).detach()) == pytest.approx(expected, rel=1e-4)
    along = torch.from_numpy(np.random.default_rng(0).normal(size=(10, 3)) @ weight).float()
    found = own(step(features + along, seen - 7 * along)).detach()  # what tells classes apart is left alone
    assert float(found) == pytest.approx(expected, rel=1e-3)


def test_there_is_no_residual_where_classes_span_all_features() -> None:
    with pytest.raises(UserError, match="residual of 3 features and 3 classes is nothing; take a teacher"):
        term(4, 3, "residual")


def test_the_projector_learns_a_linear_teacher_and_the_teacher_stays_as_it_is() -> None:
    torch.manual_seed(0)
    features = torch.randn(64, 4)
    seen = (features @ torch.randn(4, 6)).requires_grad_()
    own = term(4, 6)
    optimizer = torch.optim.Adam(own.parameters(), 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        loss = own(step(features, seen.detach()))
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 1e-4 and seen.grad is None
