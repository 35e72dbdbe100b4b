import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from pipeline.classifier.hamiltonian import between_classes, knn_distance, neighbour_classes
from pipeline.classifier.networks import Classifier
from pipeline.classifier.objective import Objective, Terms
from pipeline.classifier.training_data import LastLayers
from pipeline.classifier.virtual import VirtualOutliers, mixtures, permuted
from pipeline.settings.virtual import HamiltonianSettings
from pipeline.training.loaders import Batch

MIXTURE = {"kind": "mixture", "ratio": [0.3, 0.7]}
HAMILTONIAN = {"kind": "hamiltonian", "neighbours": 2, "classes": 2, "rounds": 3, "leaps": 3, "step_size": 0.1}
ATTRIBUTION = {"kind": "attribution", "share": 0.1, "step": [1.0, 0.1], "sign": "plus"}


def made(content: dict[str, Any], steps: int = 10, share: float = 0.5) -> VirtualOutliers:
    virtual = Terms.model_validate({"virtual_outliers": content}).virtual_outliers
    assert virtual is not None
    return VirtualOutliers(virtual, steps, share)


def on_features(width: int = 64) -> LastLayers:
    torch.manual_seed(0)
    model = Classifier("wrn-10-1", {"kind": "linear"}, list("abcd"), 8, 1, [0.5], [0.3], neck=0).eval()
    model.neck.measure(torch.randn(500, width) * torch.linspace(0.1, 3, width) + 1)
    return LastLayers(model)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=20), st.integers(1, 12), st.integers(0, 2**31))
def test_a_mixture_lies_between_two_items_of_different_classes(labels: list[int], count: int, seed: int) -> None:
    torch.manual_seed(seed)
    items = torch.eye(len(labels))  # so that a mixture says which two and how much of each
    found = mixtures(items, torch.tensor(labels), count, [0.3, 0.7])
    assert len(found) == (min(count, len(labels)) if len(set(labels)) > 1 else 0)
    for row in found:
        first, second = torch.nonzero(row).flatten().tolist()
        assert labels[first] != labels[second] and 0.3 <= float(row.max()) <= 0.7 + 1e-6
        assert float(row.sum()) == pytest.approx(1)


def test_images_are_mixed_as_features_are() -> None:
    torch.manual_seed(0)
    images, labels = torch.rand(8, 3, 4, 4), torch.arange(8)
    torch.manual_seed(1)
    found = mixtures(images, labels, 5, [0.5, 0.5])
    torch.manual_seed(1)
    assert found.flatten(1).equal(mixtures(images.flatten(1), labels, 5, [0.5, 0.5])) and found.shape == (5, 3, 4, 4)


def test_permuted_features_keep_every_column_and_no_row() -> None:
    torch.manual_seed(0)
    features = torch.arange(600.0).view(20, 30)
    found = permuted(features, 20)
    assert found.sort(dim=0).values.equal(features)
    rows = found // 30  # the image that each value is of
    assert all(len(row.unique()) > 5 for row in rows)
    assert permuted(features, 7).shape == (7, 30)


def brute_force(point: Tensor, units: Tensor, labels: Tensor, label: int, k: int) -> float:
    distances = sorted(float((point - unit).norm()) for unit, own in zip(units, labels, strict=True) if own == label)
    return distances[min(k, len(distances)) - 1]


def test_knn_distance_is_that_to_the_kth_item_of_the_class() -> None:
    torch.manual_seed(0)
    units, labels = functional.normalize(torch.randn(30, 5)), torch.arange(30) % 3
    labels[labels == 2] = torch.where(torch.arange(10) < 2, 2, 0)  # two items alone of class 2
    points = functional.normalize(torch.randn(6, 5))
    for label in range(3):
        found = knn_distance(points, units, (labels == label).expand(6, -1), 4)
        assert found.tolist() == pytest.approx([brute_force(x, units, labels, label, 4) for x in points], abs=1e-5)


def test_neighbour_classes_are_those_of_the_nearest_mean_directions() -> None:
    angles = torch.tensor([0.0, 0.3, 1.0, 3.0])
    units = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert neighbour_classes(units, torch.tensor([4, 5, 6, 7]), 2) == {4: [5, 6], 5: [4, 6], 6: [5, 4], 7: [6, 5]}
    assert neighbour_classes(units[:2], torch.tensor([1, 0]), 3) == {0: [1], 1: [0]}


def clusters() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    labels = torch.arange(90) % 3
    centres = functional.normalize(torch.randn(3, 8))
    return functional.normalize(centres[labels] + 0.05 * torch.randn(90, 8)), labels


def test_hamiltonian_outliers_are_on_the_sphere_and_farther_from_every_class_than_id() -> None:
    units, labels = clusters()
    settings = HamiltonianSettings.model_validate(HAMILTONIAN)
    found = between_classes(units, labels, 40, settings)
    assert found.norm(dim=1).tolist() == pytest.approx([1] * 40, abs=1e-5)
    nearest = torch.cdist(found, units).min(dim=1).values
    own = (torch.cdist(units, units) + 10 * torch.eye(90)).min(dim=1).values
    assert nearest.min() > own.max()


def test_hamiltonian_steps_go_where_both_classes_are_far() -> None:
    """The more rounds, the lower the potential, on average."""
    units, labels = clusters()

    def height(rounds: int) -> float:
        torch.manual_seed(1)
        settings = HamiltonianSettings.model_validate(HAMILTONIAN | {"rounds": rounds})
        found = between_classes(units, labels, 300, settings)
        return float(torch.cdist(found, units).min(dim=1).values.log().mean())

    assert height(20) > height(1) + 0.1


def test_hamiltonian_moves_keep_the_energy_where_steps_are_small() -> None:
    """Small leapfrog steps are all taken; large ones are refused."""
    units, labels = clusters()

    def moved(size: float) -> float:
        torch.manual_seed(2)
        settings = HamiltonianSettings.model_validate(HAMILTONIAN | {"rounds": 1, "step_size": size})
        torch.manual_seed(2)
        start = between_classes(units, labels, 200, settings.model_copy(update={"rounds": 0}))
        torch.manual_seed(2)
        return float((between_classes(units, labels, 200, settings) != start).any(dim=1).float().mean())

    assert moved(0.01) > 0.99


def test_one_class_alone_has_nothing_between() -> None:
    units, _ = clusters()
    assert between_classes(units, torch.zeros(90).long(), 5, HamiltonianSettings.model_validate(HAMILTONIAN)).shape == (
        0,
        8,
    )


def linear() -> Any:
    """Images to logits that are linear in them: the gradient is the class's weight."""
    torch.manual_seed(0)
    model = Classifier("wrn-10-1", {"kind": "linear"}, list("ab"), 4, 1, [0.5], [0.25])
    model.backbone, model.head.weight = nn.Flatten(), nn.Parameter(torch.randn(2, 16))
    return model.train()


def test_attribution_moves_the_largest_values_by_a_step_that_falls() -> None:
    model, images = linear(), torch.full((4, 1, 4, 4), 0.5)
    virtual, labels = made(ATTRIBUTION, steps=3, share=0.5), torch.tensor([0, 1, 0, 1])
    for step in (1.0, 0.55, 0.1):
        found = virtual(model, Batch(images, labels))
        assert found.labels.tolist() == [0, 1, 0, 1, -1, -1]
        way = (found.images[4:] - 0.5).flatten(1)
        for row, weight in zip(way, model.head.weight, strict=True):
            assert set(torch.nonzero(row).flatten().tolist()) == set(weight.abs().topk(2).indices.tolist())
            assert float((row[row != 0].square().mean()).sqrt()) == pytest.approx(step * 0.25, rel=1e-4)
            assert torch.equal(row[row != 0].sign(), weight[row != 0].sign())
        assert model.training


def test_around_is_near_the_outliers_of_the_batch_by_ids_deviations() -> None:
    model, outliers = on_features(), torch.tensor([[0.0] * 64, [100.0] * 64])
    batch = Batch(torch.cat([torch.randn(2000, 64), outliers]), torch.tensor([0] * 2000 + [-1, -1]))
    found = made({"kind": "around", "sigma": 0.5})(model, batch).images[2002:]
    assert len(found) == 1000
    away = torch.where(found.mean(dim=1, keepdim=True) > 50, found - 100, found) / model.neck.std
    assert 300 < int((found.mean(dim=1) > 50).sum()) < 700
    torch.testing.assert_close(away.std(dim=0), torch.full((64,), 0.5), atol=0.06, rtol=0)
    torch.testing.assert_close(away.mean(dim=0), torch.zeros(64), atol=0.08, rtol=0)


@pytest.mark.parametrize("content", [MIXTURE, {"kind": "permuted"}, HAMILTONIAN])
def test_outliers_come_after_the_batch_and_are_of_its_id_items(content: dict[str, Any]) -> None:
    features, labels = torch.randn(12, 64), torch.tensor([0, 1, 2, 3] * 2 + [-1] * 4)
    features[8:] = math.nan  # outliers that are there already are of no use
    found = made(content)(on_features(), Batch(features, labels))
    assert found.labels.tolist() == [*labels.tolist(), *[-1] * 4] and found.images[:8].equal(features[:8])
    assert found.images[12:].isfinite().all() and found.images[12:].std() > 0.1


def test_hamiltonian_outliers_have_the_length_of_standardised_id_features() -> None:
    model, labels = on_features(), torch.arange(40) % 4
    features = torch.randn(40, 64) * model.neck.std + model.neck.mean
    found = made(HAMILTONIAN)(model, Batch(features, labels)).images[40:]
    lengths = ((found - model.neck.mean) / model.neck.std).norm(dim=1)
    expected = ((features - model.neck.mean) / model.neck.std).norm(dim=1).median()
    assert lengths.tolist() == pytest.approx([float(expected)] * 20, rel=1e-4)


def test_the_objective_shows_them_to_the_terms_and_keeps_the_count_of_steps() -> None:
    terms = Terms.model_validate({"virtual_outliers": MIXTURE, "outlier_exposure": {"weight": 0.5, "temperature": 1.0}})
    model, batch = on_features(), Batch(torch.randn(8, 64), torch.arange(8) % 4)
    objective = Objective(terms, model.head, virtual=made(MIXTURE))
    found = objective(model, batch)
    alone = Objective(Terms(), model.head)(model, batch)
    torch.testing.assert_close(found["cross_entropy"], alone["cross_entropy"])
    assert float(found["outlier_exposure"].detach()) >= 0.5 * math.log(4) - 1e-6
    assert objective.stateful["objective"].state_dict()["virtual.done"] == 1


@pytest.mark.parametrize("content", [MIXTURE, HAMILTONIAN])
@pytest.mark.parametrize("term", ["outlier_exposure", "energy_regularization"])
def test_a_batch_of_one_class_has_none_and_is_no_error(content: dict[str, Any], term: str) -> None:
    weights = {
        "outlier_exposure": {"weight": 1.0, "temperature": 1.0},
        "energy_regularization": {"weight": 1.0, "margin_in": -100.0, "margin_out": 100.0},
    }
    terms = Terms.model_validate({"virtual_outliers": content, term: weights[term]})
    model, batch = on_features(), Batch(torch.randn(8, 64), torch.ones(8).long())
    found = Objective(terms, model.head, virtual=made(content))(model, batch)[term]
    assert found.isfinite() and (term == "energy_regularization" or float(found.detach()) == 0)
