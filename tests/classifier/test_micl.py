import math
from copy import deepcopy

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.classifier.micl import (
    Club,
    InfoNCE,
    MiclTerm,
    PartnerBank,
    outlier_vectors,
    without_class_means,
)
from pipeline.classifier.terms import Context, Step
from pipeline.settings.recipes import Micl
from pipeline.training.loaders import Batch

DIMENSIONS = 4


def gaussians(n: int, correlation: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pairs whose coordinates correlate one to one: I = -d/2 ln(1 - rho^2) nats."""
    x, noise = torch.randn(2, n, DIMENSIONS, generator=generator)
    return x, correlation * x + math.sqrt(1 - correlation**2) * noise


def information(correlation: float) -> float:
    return -DIMENSIONS / 2 * math.log(1 - correlation**2)


def fitted(estimator: torch.nn.Module, correlation: float, steps: int = 1000) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(estimator.parameters(), 2e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        estimator.fitting_loss(*gaussians(256, correlation, generator)).backward()
        optimizer.step()
    return estimator


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_club_bounds_the_information_of_gaussians_from_above(correlation: float) -> None:
    """Its limit where q is exact: E log q(y|x) - E E log q(y|x') = d rho^2 / (1 - rho^2), at least the information."""
    torch.manual_seed(0)
    club = fitted(Club(DIMENSIONS, DIMENSIONS), correlation)
    with torch.no_grad():
        found = float(club.information(*gaussians(20_000, correlation, torch.Generator().manual_seed(1))))
    limit = DIMENSIONS * correlation**2 / (1 - correlation**2)
    assert found == pytest.approx(limit, rel=0.15, abs=0.1)
    assert found >= information(correlation) - 0.1


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_infonce_approaches_the_information_of_gaussians_from_below(correlation: float) -> None:
    torch.manual_seed(0)
    critic = fitted(InfoNCE(DIMENSIONS, DIMENSIONS), correlation)
    with torch.no_grad():
        found = float(critic.information(*gaussians(4000, correlation, torch.Generator().manual_seed(1))))
    assert found <= information(correlation) + 0.1
    assert found == pytest.approx(information(correlation), rel=0.25, abs=0.1)


def test_infonce_cannot_exceed_the_log_of_the_batch() -> None:
    critic, (x, y) = InfoNCE(2, 2), torch.randn(2, 16, 2)
    assert float(critic.information(100 * x, 100 * y).detach()) <= math.log(16) + 1e-5


def test_club_is_the_difference_of_mean_log_likelihoods() -> None:
    torch.manual_seed(0)
    club, (x, y) = Club(3, 2), (torch.randn(7, 3), torch.randn(7, 2))
    normals = [torch.distributions.Normal(club.mean(row), (club.log_variance(row) / 2).exp()) for row in x]
    likelihoods = torch.stack([normal.log_prob(y).sum(dim=1) for normal in normals])
    expected = likelihoods.diagonal().mean() - likelihoods.mean()
    torch.testing.assert_close(club.information(x, y), expected)
    constant = y.shape[1] / 2 * math.log(2 * math.pi)
    torch.testing.assert_close(club.fitting_loss(x, y), -likelihoods.diagonal().mean() - constant)


def coupled(classes: int = 3, n: int = 600) -> tuple[PartnerBank, Tensor, Tensor]:
    """Outliers near their class's place, features near theirs."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (n,), generator=generator)
    places = 3 * torch.randn(2, classes, 6, generator=generator)
    vectors = places[0][labels] + torch.randn(n, 6, generator=generator)
    features = places[1][labels] + torch.randn(n, 6, generator=generator)
    return PartnerBank(vectors, labels[:, None].repeat(1, 2), classes, vectors), features, labels


def settings(estimator: str, steps: int = 50, pairing: str = "class") -> Micl:
    own = {"weight": 1.0, "estimator": estimator, "fitting_steps": steps, "learning_rate": 0.003, "pairing": pairing}
    return Micl.model_validate(own)


def step(features: Tensor, labels: Tensor, taught: Tensor | None = None) -> Step:
    """A step of ID images of these features, and of the teacher's features."""
    nothing = torch.zeros(len(labels), 1)
    return Step(Batch(nothing, labels), nothing, features, lambda images: (nothing, taught))


def gradients(term: MiclTerm, features: Tensor, labels: Tensor, draws: int, taught: Tensor | None = None) -> Tensor:
    """The term's gradient on the features for each of many pairings, (draws, n)."""
    found = []
    for _ in range(draws):
        leaf = features.clone().requires_grad_()
        term(step(leaf, labels, taught)).backward()
        found.append(leaf.grad.flatten())
    return torch.stack(found)


def signal(of_draws: Tensor) -> float:
    """Length of the mean gradient over what pure zero-mean noise would leave of it, about 1 where that is all."""
    noise = of_draws.std(dim=0).norm() / math.sqrt(len(of_draws))
    return float(of_draws.mean(dim=0).norm() / noise)


@pytest.mark.parametrize("estimator", ["club", "infonce"])
def test_the_expected_gradient_on_features_is_not_zero(estimator: str) -> None:
    """And it is where outliers are paired at random with an estimator that is never fitted, as in the released code."""
    torch.manual_seed(0)
    bank, features, labels = coupled()
    term = MiclTerm(settings(estimator, 500), Context(features.shape[1], bank=bank))
    term(step(features, labels))
    term.settings = settings(estimator, 1)
    assert signal(gradients(term, features, labels, 200)) > 5


def test_random_pairs_and_an_estimator_never_fitted_have_no_expected_gradient() -> None:
    torch.manual_seed(0)
    club, found = Club(6, 6), []
    x, y = torch.randn(2, 64, 6)
    for _ in range(400):
        leaf = y.clone().requires_grad_()
        club.information(x[torch.randperm(64)], leaf).backward()
        found.append(leaf.grad.flatten())
    assert signal(torch.stack(found)) < 1.3


def test_minimising_clubs_bound_takes_information_away() -> None:
    """Judged by a classifier that reads the outliers' class from the features; three classes, ln 3 at most."""
    torch.manual_seed(0)
    bank, features, labels = coupled()
    term = MiclTerm(settings("club", 5), Context(features.shape[1], bank=bank))
    moved = features.clone().requires_grad_()
    optimizer = torch.optim.Adam([moved], 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        term(step(moved, labels)).backward()
        optimizer.step()

    def told(of: Tensor) -> float:
        return float(cross_val_score(LogisticRegression(max_iter=1000), normalize(of.detach()), labels).mean())

    assert told(features) > 0.95
    assert told(moved) < 0.75


def photographs(n: int = 600) -> tuple[PartnerBank, Tensor, Tensor, Tensor]:
    """Images of three classes with a look of their own (two numbers), which outliers of the class share.

    The bank, the student's features, labels, and the teacher's features.
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 3
    looks = torch.randn(n, 2, generator=generator)
    places = 3 * torch.randn(2, 3, 6, generator=generator)
    taught = torch.cat([places[0][labels][:, :4], looks], dim=1)
    vectors = taught + 0.2 * torch.randn(n, 6, generator=generator)
    features = places[1][labels] + torch.nn.functional.pad(2 * looks, (0, 4))
    features = features + 0.5 * torch.randn(n, 6, generator=generator)
    return PartnerBank(vectors, labels[:, None].repeat(1, 2), 3, vectors), features, labels, taught


def of_cross_entropy(features: Tensor, labels: Tensor) -> Tensor:
    """The gradient of the cross-entropy of a linear classifier that is good, and not yet done."""
    fitted = LogisticRegression(C=0.01).fit(features, labels)
    leaf = features.clone().requires_grad_()
    logits = leaf @ torch.tensor(fitted.coef_.T, dtype=torch.float32) + torch.tensor(fitted.intercept_).float()
    torch.nn.functional.cross_entropy(logits, labels).backward()
    return leaf.grad


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0))


def class_means(gradient: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([gradient[labels == label].mean(dim=0) for label in labels.unique()])


def test_within_the_class_it_does_not_oppose_classification() -> None:
    """Pairs by class move the class means against the cross-entropy; pairs within the class leave them alone."""
    torch.manual_seed(0)
    bank, features, labels, taught = photographs()
    opposed, means = {}, {}
    for pairing in ("class", "within-class"):
        term = MiclTerm(settings("club", 500, pairing), Context(features.shape[1], bank=bank))
        value = term(step(features, labels, taught))
        assert float(value) > 0.3  # there is information to take away
        term.settings = settings("club", 1, pairing)
        found = gradients(term, features, labels, 40, taught).mean(dim=0).view_as(features)
        opposed[pairing] = cosine(found, of_cross_entropy(features, labels))
        means[pairing] = float(class_means(found, labels).norm() / found.norm() * math.sqrt(len(labels) / 3))
    assert opposed["class"] < -0.3 and abs(opposed["within-class"]) < 0.1
    assert means["class"] > 0.5 and means["within-class"] < 1e-5


def test_partners_within_the_class_are_those_that_the_teacher_finds_alike() -> None:
    vectors, parents = torch.arange(40.0)[:, None], (torch.arange(40) // 20)[:, None].repeat(1, 2)
    bank = PartnerBank(vectors, parents, 2, vectors)
    labels = torch.tensor([0, 1]).repeat(200)
    found = bank.alike(*bank.nearest(labels, torch.tensor([[10.0], [38.9]]).repeat(200, 1)))
    rows = (found.squeeze(1)[:, None] == bank.vectors.squeeze(1)[None]).nonzero()[:, 1]
    assert set(rows[labels == 0].tolist()) == {8, 9, 10, 11, 12}
    assert set(rows[labels == 1].tolist()) == {35, 36, 37, 38, 39}


def test_a_class_of_fewer_outliers_is_paired_with_those() -> None:
    vectors, parents = torch.arange(8.0)[:, None], torch.tensor([[0, 0]] * 6 + [[1, 1]] * 2)
    bank = PartnerBank(vectors, parents, 2, vectors)
    labels = torch.tensor([0, 1]).repeat(100)
    found = bank.alike(*bank.nearest(labels, torch.zeros(200, 1)))
    rows = (found.squeeze(1)[:, None] == bank.vectors.squeeze(1)[None]).nonzero()[:, 1]
    assert set(rows[labels == 0].tolist()) == {0, 1, 2, 3, 4} and set(rows[labels == 1].tolist()) == {6, 7}


def test_random_pairs_are_of_all_outliers_whatever_the_class() -> None:
    vectors = torch.arange(6.0)[:, None]
    bank = PartnerBank(vectors, torch.tensor([[0, 0]] * 3 + [[1, 1]] * 3), 2)
    found = bank.anyone(torch.zeros(3000, dtype=torch.int64)).squeeze(1)
    counts = torch.tensor([(found == value).sum() for value in bank.vectors.squeeze(1)])
    assert int(counts.min()) > 400


def test_random_pairs_carry_no_information_and_no_expected_gradient() -> None:
    """The published form: whatever the estimator was fitted to, what it says of other random pairs is noise."""
    torch.manual_seed(0)
    bank, features, labels = coupled()
    term = MiclTerm(settings("club", 20, "random"), Context(features.shape[1], bank=bank))
    term(step(features, labels))
    term.settings = settings("club", 1, "random")
    assert signal(gradients(term, features, labels, 200)) < 2


def test_variances_are_bounded_however_certain_the_estimator_becomes() -> None:
    """Without a bound the information of features that are predicted without error grows without end."""
    torch.manual_seed(0)
    x = torch.randn(256, 3)
    club = Club(3, 3)
    optimizer = torch.optim.Adam(club.parameters(), 0.01)
    for _ in range(500):
        optimizer.zero_grad()
        club.fitting_loss(x, x).backward()
        optimizer.step()
    assert float(club.log_variance(x).detach().abs().max()) <= 3
    assert float(club.information(x, x).detach()) < 3 * math.exp(3) * 1.2


def test_vectors_of_latents_alone() -> None:
    latents = torch.randn(5, 4, 16, 16)
    assert torch.equal(outlier_vectors(latents, None), outlier_vectors(latents, torch.zeros(5, 0)))


def test_class_means_are_removed_whatever_the_labels() -> None:
    values, labels = torch.randn(50, 3), torch.randint(0, 9, (50,)) * 7
    found = without_class_means(values, labels)
    for label in labels.unique():
        own = values[labels == label]
        torch.testing.assert_close(found[labels == label], own - own.mean(dim=0))


def test_fitting_moves_the_estimator_and_never_the_features() -> None:
    bank, features, labels = coupled()
    term = MiclTerm(settings("club", 3), Context(features.shape[1], bank=bank))
    before = {name: value.clone() for name, value in term.estimator.state_dict().items()}
    leaf = features.clone().requires_grad_()
    loss = term(step(leaf, labels))
    assert leaf.grad is None
    assert all(not torch.equal(before[name], value) for name, value in term.estimator.state_dict().items())
    fitted_state = {name: value.clone() for name, value in term.estimator.state_dict().items()}
    loss.backward()
    assert leaf.grad is not None and all(parameter.grad is not None for parameter in term.estimator.parameters())
    term.optimizer.zero_grad()
    assert all(torch.equal(fitted_state[name], value) for name, value in term.estimator.state_dict().items())


def test_partners_share_the_class_and_come_from_all_of_it() -> None:
    vectors, parents = torch.arange(12.0)[:, None], torch.tensor([[0, 1]] * 4 + [[2, 2]] * 4 + [[-1, -1]] * 4)
    bank = PartnerBank(vectors, parents, 4, vectors)
    labels = torch.tensor([0, 1, 2, 3]).repeat(200)
    paired = bank.has_partner(labels)
    assert torch.equal(paired, labels != 3)
    found = bank.partners(labels[paired])
    rows = (found.squeeze(1)[:, None] == bank.vectors.squeeze(1)[None]).nonzero()[:, 1]
    for label, expected in {0: {0, 1, 2, 3}, 1: {0, 1, 2, 3}, 2: {4, 5, 6, 7}}.items():
        assert set(rows[labels[paired] == label].tolist()) == expected


def test_vectors_are_pooled_latents_and_embeddings() -> None:
    latents, embeddings = torch.randn(5, 4, 16, 16), torch.randn(5, 7)
    vectors = outlier_vectors(latents, embeddings)
    assert vectors.shape == (5, 4 * 64 + 7)
    assert float(vectors[2, 0]) == pytest.approx(float(latents[2, 0, :2, :2].mean()), abs=1e-6)
    assert torch.equal(vectors[:, -7:], embeddings)


def test_its_state_comes_back() -> None:
    bank, features, labels = coupled()
    first, second = (MiclTerm(settings("club", 2), Context(features.shape[1], bank=bank)) for _ in range(2))
    first(step(features, labels))
    second.load_state_dict(deepcopy(first.state_dict()))
    results = []
    for term in (first, second):
        torch.manual_seed(3)
        results.append(float(term(step(features, labels)).detach()))
    assert results[0] == results[1]
