"""Detectors that need images: ODIN by its published steps, on normalised inputs as OpenOOD has it."""

import pytest
import torch
from sklearn.model_selection import ParameterGrid
from torch.nn import functional

from pipeline.classifier.networks import Classifier
from pipeline.evaluation import image_detectors
from pipeline.evaluation.grid import combinations, detector_of, label
from pipeline.runtime.errors import UserError


@pytest.mark.parametrize(("temperature", "eps"), [(1.0, 0.0014), (1000.0, 0.0028), (10.0, 0.05)])
def test_odin_is_openood_s(temperature: float, eps: float) -> None:
    """Gradient of the temperature-scaled loss of the predicted class; its sign divided by the deviations of the
    normalisation; a step; the largest softmax at that temperature."""
    torch.manual_seed(0)
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    model = Classifier("wrn-10-1", {"kind": "linear"}, ["a", "b", "c"], 16, 3, mean, std).eval().requires_grad_(False)
    images = torch.rand(6, 3, 16, 16)
    found = image_detectors.build("odin", {"temperature": temperature, "eps": eps}, lambda x: model(x)[0])(images)

    def network(normalised: torch.Tensor) -> torch.Tensor:
        return model.head(model.backbone(normalised))[0]

    normalised = ((images - model.mean) / model.std).requires_grad_()
    logits = network(normalised) / temperature
    loss = functional.cross_entropy(logits, logits.argmax(dim=1), reduction="sum")
    (gradient,) = torch.autograd.grad(loss, normalised)
    moved = normalised.detach() - eps * gradient.sign() / model.std
    expected = -(network(moved) / temperature).softmax(dim=1).amax(dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_bad_detectors_are_named() -> None:
    with pytest.raises(UserError, match=r"infer.detectors: unknown 'odn'; expected some of odin"):
        image_detectors.build("odn", {}, lambda x: x)
    with pytest.raises(UserError, match=r"infer.detectors.odin: .*'q'"):
        image_detectors.build("odin", {"q": 1}, lambda x: x)


def test_every_combination_has_a_name_of_its_own() -> None:
    found = [label("odin", one) for one in combinations({"temperature": [1, 1000], "eps": [0.1, 0.2], "flag": True})]
    assert len(set(found)) == 4 and "odin(eps=0.1,flag=True,temperature=1000)" in found
    assert {detector_of(name) for name in found} == {"odin"} and detector_of("own") == "own"
    assert [label("msp", one) for one in combinations({})] == ["msp()"]


def test_combinations_are_scikit_learns_in_its_order() -> None:
    options = {"temperature": [1, 1000], "eps": [0.1, 0.2, 0.3], "flag": True, "name": "odin"}
    choices = {key: value if isinstance(value, list) else [value] for key, value in options.items()}
    assert list(combinations(options)) == list(ParameterGrid(choices))


def test_an_empty_choice_is_refused() -> None:
    with pytest.raises(UserError, match=r"detectors: eps is an empty list"):
        list(combinations({"temperature": 1, "eps": []}))
