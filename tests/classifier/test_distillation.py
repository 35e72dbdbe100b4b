import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.classifier.distillation import FeatureHints, soft_targets


def test_soft_targets_cost_exactly_nothing_where_student_equals_teacher() -> None:
    logits = 30 * torch.randn(8, 5)
    assert float(soft_targets(logits, logits.clone(), 2.0)) == 0.0


@settings(max_examples=30, deadline=None)
@given(st.floats(0.5, 8), st.integers(0, 2**31))
def test_soft_targets_are_the_softened_kl(temperature: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(4, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    p, q = (teacher / temperature).softmax(dim=1), (student / temperature).softmax(dim=1)
    expected = temperature**2 * (p * (p / q).log()).sum(dim=1).mean()
    assert float(soft_targets(student, teacher, temperature)) == pytest.approx(float(expected), rel=1e-9, abs=1e-12)


def test_hints_cost_exactly_nothing_where_student_equals_teacher() -> None:
    features = torch.randn(8, 16)
    assert float(FeatureHints(16, 16)(features, features.clone())) == 0.0


def test_hints_are_relative_squared_errors_of_a_projection() -> None:
    hints, features, seen = FeatureHints(4, 6), torch.randn(10, 4), 100 * torch.randn(10, 6)
    with torch.no_grad():
        hints.projector.weight.normal_()
    projected = torch.stack([hints.projector.weight @ row for row in features])
    expected = ((projected - seen) ** 2).mean() / (seen**2).mean()
    torch.testing.assert_close(hints(features, seen), expected)


def test_the_projector_learns_a_linear_teacher_and_the_teacher_stays_as_it_is() -> None:
    torch.manual_seed(0)
    features = torch.randn(64, 4)
    seen = (features @ torch.randn(4, 6)).requires_grad_()
    hints = FeatureHints(4, 6)
    optimizer = torch.optim.Adam(hints.parameters(), 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        loss = hints(features, seen.detach())
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 1e-4 and seen.grad is None
