import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_ood.loss import OutlierExposureLoss
from torch.nn import functional

from pipeline.learning.objective import Batch, distillation, exposure, objective


class Linear(torch.nn.Module):
    """A network that gives logits and features and counts its forward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(5, 4)
        self.passes = 0

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.passes += 1
        return self.layer(images), images


@pytest.mark.parametrize("classes", [2, 6, 100])
def test_exposure_is_least_and_ln_c_at_equal_logits(classes: int) -> None:
    assert float(exposure(torch.full((3, classes), 7.0))) == pytest.approx(math.log(classes), rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.integers(2, 12), st.integers(0, 2**31))
def test_exposure_is_kl_from_uniform_plus_ln_c_and_agrees_with_pytorch_ood(n: int, classes: int, seed: int) -> None:
    logits = 10 * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = float(exposure(logits))
    uniform = torch.full_like(logits, 1 / classes)
    kl = functional.kl_div(logits.log_softmax(dim=1), uniform, reduction="batchmean")
    assert found == pytest.approx(float(kl) + math.log(classes), rel=1e-9)
    assert found >= math.log(classes) - 1e-12
    outliers = torch.full((n,), -1)
    theirs = OutlierExposureLoss(alpha=0.5, reduction="none")(logits.float(), outliers)
    assert 0.5 * found == pytest.approx(float(theirs.mean()), rel=1e-5)


def test_the_whole_loss_is_hendrycks_in_one_forward_pass() -> None:
    torch.manual_seed(0)
    model = Linear()
    images, labels = torch.randn(10, 5), torch.tensor([0, 1, 2, 3, 0, 1, -1, -1, -1, -1])
    terms = objective(exposure_weight=0.5)(model, Batch(images, labels))
    assert model.passes == 1
    logits = model.layer(images)
    known = functional.cross_entropy(logits[:6], labels[:6])
    unknown = -(logits[6:].mean(dim=1) - logits[6:].logsumexp(dim=1)).mean()  # OpenOOD's oe_trainer
    assert set(terms) == {"cross_entropy", "exposure"}
    torch.testing.assert_close(sum(terms.values()), known + 0.5 * unknown)


def test_distillation_is_exactly_zero_where_student_equals_teacher() -> None:
    logits = 30 * torch.randn(8, 5)
    assert float(distillation(logits, logits.clone(), 2.0)) == 0.0


@settings(max_examples=30, deadline=None)
@given(st.floats(0.5, 8), st.integers(0, 2**31))
def test_distillation_is_the_softened_kl(temperature: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(4, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    p, q = (teacher / temperature).softmax(dim=1), (student / temperature).softmax(dim=1)
    expected = temperature**2 * (p * (p / q).log()).sum(dim=1).mean()
    assert float(distillation(student, teacher, temperature)) == pytest.approx(float(expected), rel=1e-9, abs=1e-12)


def test_distillation_sees_id_images_alone_and_leaves_the_teacher_alone() -> None:
    torch.manual_seed(0)
    model, teacher = Linear(), Linear()
    images, labels = torch.randn(6, 5), torch.tensor([0, 1, 2, -1, -1, -1])
    terms = objective(distillation_weight=1.0, temperature=2.0, teacher=teacher)(model, Batch(images, labels))
    expected = distillation(model.layer(images[:3]), teacher.layer(images[:3]), 2.0)
    torch.testing.assert_close(terms["distillation"], expected)
    sum(terms.values()).backward()
    assert teacher.layer.weight.grad is None
