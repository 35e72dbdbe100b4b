import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.artifacts.images import Preprocessing
from pipeline.classifier.fitting import Form, build_classifier, groups
from pipeline.classifier.networks import Classifier, Neck, folded, last_stage, predict
from pipeline.classifier.objective import Objective
from pipeline.classifier.training_data import LastLayers, SomeClasses, TrainingData
from pipeline.settings.recipes import Terms
from pipeline.settings.train import TrainSettings
from tests.classifier.test_fitting import settings


class Labelled:
    """Features whose first value is their place, in pieces."""

    def __init__(self, labels: list[int], sizes: list[int]):
        self.classes, self.preprocessing, self.sizes = list("abcd"), Preprocessing(8), sizes
        places = torch.arange(len(labels)).float()[:, None].repeat(1, 3)
        self.parts = list(zip(places.split(sizes), torch.tensor(labels).split(sizes), strict=True))

    def load(self, piece: int) -> tuple[Tensor, Tensor]:
        return self.parts[piece]

    def names(self, piece: int) -> tuple[list[str], Tensor]:
        values, labels = self.parts[piece]
        return [str(int(value)) for value in values[:, 0]], labels


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.sets(st.integers(0, 3), min_size=1), st.integers(1, 9))
def test_some_classes_are_their_images_and_no_others(labels: list[int], kept: set[int], size: int) -> None:
    order = sorted(kept, reverse=True)
    sizes = [min(size, len(labels) - start) for start in range(0, len(labels), size)]
    found = SomeClasses(Labelled(labels, sizes), order)
    assert found.classes == [list("abcd")[label] for label in order]
    rows = [
        (int(value), int(label))
        for piece in range(len(found.sizes))
        for value, label in zip(found.load(piece)[0][:, 0], found.load(piece)[1], strict=True)
    ]
    assert rows == [(i, order.index(label)) for i, label in enumerate(labels) if label in kept]
    names = [found.names(piece) for piece in range(len(found.sizes))]
    assert [key for keys, _ in names for key in keys] == [str(i) for i, _ in rows]
    assert [len(keys) for keys, _ in names] == found.sizes and 0 not in found.sizes


def model(neck: int | None, head: dict[str, object]) -> Classifier:
    torch.manual_seed(0)
    return Classifier("wrn-10-1", head, list("abc"), 8, 1, [0.5], [0.3], neck=neck).eval()


def test_a_folded_neck_says_the_same_of_the_networks_own_features() -> None:
    made, features = model(0, {"kind": "linear"}), torch.rand(50, 64) * torch.linspace(0, 3, 64)
    made.neck.measure(features)
    standardised = made.neck(features)
    assert standardised.mean(dim=0).abs().max() < 1e-5
    assert torch.allclose(standardised.std(dim=0, correction=0)[1:], torch.ones(63), atol=1e-4)
    assert made.neck.std[0] == 1  # it never varies
    plain = folded(made)
    assert not isinstance(plain.neck, Neck)
    assert torch.allclose(plain.classify(features)[0], made.classify(features)[0], atol=1e-5)
    assert torch.equal(plain.classify(features)[1], features)
    pixels = torch.randint(256, (4, 1, 8, 8), dtype=torch.uint8)
    assert torch.allclose(predict(plain, pixels, 4)[0], predict(made, pixels, 4)[0], atol=1e-5)
    assert LastLayers(made)(features)[0].equal(made.classify(features)[0])


def test_a_layer_on_features_is_part_of_the_model() -> None:
    made = model(16, {"kind": "arcface", "scale": 16.0, "margin": 0.5})
    logits, features = made(torch.rand(3, 1, 8, 8))
    assert features.shape == (3, 16) and made._hub_mixin_config["neck"] == 16
    assert torch.allclose(features @ made.head.weight.T, logits, atol=1e-5)


def test_classes_count_alike_however_many_images_they_have() -> None:
    values = settings().model_dump() | {
        "init_from": "scratch", "hidden": None, "outliers": "o", "controls": "c", "auxiliary_count": 1,
        "auxiliary_batch": 1, "class_weights": "balanced", "score": None, "seeds": [0], "backbone": "frozen",
    }  # fmt: skip
    data = Labelled([0] * 6 + [1] * 2 + [2] + [3], [5, 5])
    weights = TrainingData(data, data, (3, 8, 8), TrainSettings.model_validate(values), None).class_weights()
    assert weights is not None
    assert (weights * torch.tensor([6, 2, 1, 1])).tolist() == pytest.approx([2.5] * 4)
    equal = TrainSettings.model_validate(values | {"class_weights": "equal"})
    assert TrainingData(data, data, (3, 8, 8), equal, None).class_weights() is None


def fine_tuned(backbone: str) -> tuple[Classifier, dict[str, Tensor]]:
    """A small pretrained network after a step, and its weights before."""
    own = settings(network="timm:resnet10t", backbone=backbone, backbone_learning_rate=0.01)
    made = build_classifier(
        own,
        0,
        {"kind": "linear"},
        Form(["a", "b"], (3, 16, 16), Preprocessing(16), lambda: ([0.5] * 3, [0.5] * 3), lambda: torch.zeros(1)),
    )
    made.keeps_statistics = True
    before = {name: value.clone() for name, value in made.state_dict().items()}
    made.train()
    found = groups(made, Objective(Terms(), made.head), own)
    assert [group.get("lr") for group in found] == [None, 0.01]
    optimiser = torch.optim.SGD(found, 0.1)
    made(torch.rand(4, 3, 16, 16))[0].square().sum().backward()
    optimiser.step()
    return made, before


@pytest.mark.parametrize("backbone", ["all", "last-stage", "frozen"])
def test_what_learns_of_a_pretrained_network_is_what_was_asked_for(backbone: str) -> None:
    made, before = fine_tuned(backbone)
    after = made.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    last = {name for name in changed if ".layer4." in name}
    others = {name for name in changed if name.startswith("backbone.") and ".layer4." not in name}
    assert {"head.weight", "head.bias"} <= changed
    assert bool(last) == (backbone != "frozen") and bool(others) == (backbone == "all")
    assert not any("running_" in name or "num_batches" in name for name in changed)  # statistics are kept


def test_the_last_stage_goes_to_the_end_of_the_network() -> None:
    import timm

    network = timm.create_model("efficientnet_lite0", num_classes=0)
    names = {id(weight): name for name, weight in network.named_parameters()}
    found = [names[id(weight)] for weight in last_stage(network)]
    assert found[0].startswith("blocks.6.") and found[-1].startswith("bn2.") and "conv_head.weight" in found
