import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from pipeline.classifier import heads
from pipeline.classifier.margins import ANNEALING, NormalisedSphereFace
from pipeline.classifier.scores import max_cosine, max_softmax
from pipeline.runtime.errors import UserError
from pipeline.settings.heads import parse

ANGULAR = [
    {"kind": "cosface", "scale": 30.0, "margin": 0.35},
    {"kind": "arcface", "scale": 30.0, "margin": 0.5},
    {"kind": "sphereface", "scale": 30.0, "margin": 1.35},
    {"kind": "a-softmax", "margin": 4},
    {"kind": "adacos"},
]
NORMALISED = [{"kind": "z-score", "scale": 0.5}, {"kind": "l2", "scale": 8.0}]
ALL = [{"kind": "linear"}, *NORMALISED, *ANGULAR]


def made(content: dict[str, object], dimension: int = 8, classes: int = 5) -> torch.nn.Module:
    torch.manual_seed(0)
    return heads.build(parse(content), dimension, classes)


def batch(n: int = 40, dimension: int = 8, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, dimension, generator=generator).abs(), torch.randint(classes, (n,), generator=generator)


def angles(head: torch.nn.Module, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Target angles by hand, from the head's weights, float64."""
    directions = functional.normalize(head.weight.detach().double())[labels]
    return (functional.normalize(features.double()) * directions).sum(dim=1).acos()


@pytest.mark.parametrize("content", ALL, ids=lambda content: content["kind"])
def test_logits_are_the_linear_map_of_the_features(content: dict[str, object]) -> None:
    head = made(content)
    logits, features = head(batch()[0])
    torch.testing.assert_close(features @ head.weight.T + head.bias, logits)


@pytest.mark.parametrize("content", ANGULAR, ids=lambda content: content["kind"])
def test_logits_are_scaled_cosines(content: dict[str, object]) -> None:
    head, (raw, _) = made(content), batch()
    logits, features = head(raw)
    cosines = functional.cosine_similarity(raw[:, None], head.weight[None], dim=2)
    length = raw.norm(dim=1, keepdim=True) if content["kind"] == "a-softmax" else torch.ones(len(raw), 1)
    scale = content.get("scale", head.scale if content["kind"] == "adacos" else 1.0)
    torch.testing.assert_close(logits, scale * length * cosines, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(features.norm(dim=1), length.squeeze(1))


@pytest.mark.parametrize(
    "content",
    [
        {"kind": "cosface", "scale": 30.0, "margin": 0.0},
        {"kind": "arcface", "scale": 30.0, "margin": 0.0},
        {"kind": "sphereface", "scale": 30.0, "margin": 1.0},
        {"kind": "a-softmax", "margin": 1},
    ],
    ids=lambda content: content["kind"],
)
def test_without_a_margin_the_loss_is_plain_scaled_cross_entropy(content: dict[str, object]) -> None:
    head, (raw, labels) = made(content), batch()
    logits, features = head(raw)
    torch.testing.assert_close(head.with_margin(logits, features, labels), logits, rtol=1e-4, atol=2e-3)


def test_margins_are_the_papers_formulas_at_the_target_and_nowhere_else() -> None:
    raw, labels = batch()
    for content in ANGULAR[:3]:
        head, margin = made(content), content["margin"]
        theta = angles(head, raw, labels)
        expected = {
            "cosface": theta.cos() - margin,
            "arcface": torch.where(theta <= math.pi - margin, (theta + margin).cos(),
                                   theta.cos() - margin * math.sin(margin)),
            "sphereface": (margin * theta).cos(),
        }[content["kind"]]  # fmt: skip
        logits, features = head(raw)
        found = head.with_margin(logits, features, labels)
        rows = torch.arange(len(labels))
        assert (theta * 1.35 < math.pi).all()
        torch.testing.assert_close(found[rows, labels], 30 * expected.float(), rtol=1e-3, atol=2e-3)
        others = torch.ones_like(logits, dtype=torch.bool).index_put((rows, labels), torch.tensor(False))
        assert torch.equal(found[others], logits[others])


def test_arcface_counts_its_margin_in_radians() -> None:
    """0.5 read as degrees would be hardly any margin."""
    head, (raw, labels) = made({"kind": "arcface", "scale": 1.0, "margin": 0.5}), batch()
    logits, features = head(raw)
    rows = torch.arange(len(labels))
    drop = (logits - head.with_margin(logits, features, labels))[rows, labels]
    assert drop.mean() > 0.2


@settings(max_examples=60, deadline=None)
@given(st.floats(1.0, 4.0), st.floats(0.0, math.pi), st.floats(0.0, math.pi))
def test_sphereface_falls_with_the_angle_everywhere(margin: float, one: float, other: float) -> None:
    loss = NormalisedSphereFace(num_classes=2, embedding_size=2, margin=margin, scale=1)
    near, far = sorted((one, other))
    values = loss.modify_cosine_of_target_classes(torch.tensor([near, far], dtype=torch.float64).cos())
    assert values[0] >= values[1] - 1e-6


def test_a_softmax_is_annealed_towards_its_margin() -> None:
    head, (raw, labels) = made({"kind": "a-softmax", "margin": 4}), batch()
    rows = torch.arange(len(labels))
    theta, length = angles(head, raw, labels), raw.norm(dim=1)
    k = (4 * theta / math.pi).floor()
    psi = (-1) ** k * (4 * theta).cos() - 2 * k
    for step in range(3):
        weight = ANNEALING[0] / (1 + ANNEALING[1] * step)
        logits, features = head(raw)
        expected = length * ((weight * theta.cos() + psi) / (1 + weight)).float()
        torch.testing.assert_close(head.with_margin(logits, features, labels)[rows, labels], expected,
                                   rtol=1e-3, atol=1e-3)  # fmt: skip
    head.margins.step.fill_(10**6)
    logits, features = head(raw)
    expected = length * ((5 * theta.cos() + psi) / 6).float()
    torch.testing.assert_close(head.eval().with_margin(logits, features, labels)[rows, labels], expected,
                               rtol=1e-3, atol=1e-3)  # fmt: skip
    assert int(head.margins.step) == 10**6, "only training steps count"


@pytest.mark.parametrize(("classes", "scale"), [(10, 3.1073), (6, 2.2761), (2, 1.0)])
def test_adacos_starts_at_the_papers_scale(classes: int, scale: float) -> None:
    assert float(made({"kind": "adacos"}, classes=classes).scale) == pytest.approx(scale, abs=1e-4)


def test_adacos_finds_its_scale_from_the_batch_in_training_alone() -> None:
    head, (raw, labels) = made({"kind": "adacos"}), batch()
    start = float(head.scale)
    head.eval()
    head.with_margin(*head(raw), labels)
    assert float(head.scale) == start
    head.train()
    found = head.with_margin(*head(raw), labels)
    directions = functional.normalize(head.directions.detach().double())
    cosines = functional.normalize(raw.double()) @ directions.T
    sums = [sum(math.exp(start * float(row[j])) for j in range(5) if j != label)
            for row, label in zip(cosines, labels, strict=True)]  # fmt: skip
    median = cosines[torch.arange(40), labels].acos().median()
    expected = math.log(sum(sums) / 40) / math.cos(min(math.pi / 4, float(median)))
    assert float(head.scale) == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(found, (expected * cosines).float(), rtol=1e-3, atol=1e-3)
    assert not head.scale.requires_grad


@pytest.mark.parametrize("classes", [2, 3])
def test_adacos_scale_does_not_vanish_with_few_classes(classes: int) -> None:
    head = made({"kind": "adacos"}, classes=classes)
    raw, labels = batch(classes=classes)
    for _ in range(20):
        head.with_margin(*head(raw), labels)
    assert float(head.scale) >= 1


@pytest.mark.parametrize("content", ALL, ids=lambda content: content["kind"])
def test_gradients_are_finite_where_features_lie_on_a_class_weight(content: dict[str, object]) -> None:
    head = made(content)
    raw = torch.cat([head.weight.detach(), -head.weight.detach(), torch.zeros(1, 8)]).requires_grad_()
    labels = torch.tensor([*range(5), *range(5), 0])
    functional.cross_entropy(head.with_margin(*head(raw), labels), labels).backward()
    assert torch.isfinite(raw.grad).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters())


@pytest.mark.parametrize(
    "content", [{"kind": "cosine"}, {"kind": "cosface", "scale": 30.0}, {"kind": "linear", "margin": 1.0}, 3]
)
def test_a_head_that_does_not_exist_is_named(content: object) -> None:
    with pytest.raises(UserError, match="head"):
        parse(content)


def test_max_cosine_tells_apart_what_softmax_ties() -> None:
    """At scale 30, top cosines 0.8 to 0.9 beside 0.1 all have probability 1 in float32."""
    top = torch.linspace(0.8, 0.9, 200)
    weight = torch.eye(10)
    features = torch.cat([top[:, None], torch.full((200, 9), 0.1)], dim=1)
    assert len((30 * features).softmax(dim=1).amax(dim=1).unique()) < 20
    scores = max_cosine(features, 30 * weight)
    assert len(scores.unique()) == 200 and (scores.diff() < 0).all()
    by_hand = features[:, 0].double() / features.double().norm(dim=1)
    torch.testing.assert_close(scores, -by_hand)
    assert len(max_softmax(30 * features).unique()) == 200, "float64 resolves scale 30"


def test_features_of_one_size_have_it() -> None:
    features = batch()[0]
    z, l2 = (made(content)(features)[1] for content in NORMALISED)
    assert z.mean(dim=1).abs().max() < 1e-6 and torch.allclose(z.std(dim=1, correction=0), torch.full((40,), 0.5))
    assert torch.allclose(l2.norm(dim=1), torch.full((40,), 8.0))
    assert torch.allclose(made(NORMALISED[0])(7 * features + 3)[0], made(NORMALISED[0])(features)[0], atol=1e-5)
