"""A shipped score is the score of `score`: fitted, written, read again and exported."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from pipeline.artifacts import detector as detectors
from pipeline.artifacts.detector import FILES, Detector
from pipeline.artifacts.outputs import Head, Outputs
from pipeline.evaluation.deployed import Score, fit_score, needs_training_outputs
from pipeline.evaluation.detectors import DETECTORS, FITTED, fit
from pipeline.runtime.errors import UserError

CLASSES, WIDTH = 4, 12
OPTIONS: dict[str, dict[str, Any]] = {
    "knn": {"k": 3}, "vim": {"d": 5}, "gen": {"gamma": 0.2}, "rmd++": {"shrinkage": 0.6}, "nnguide": {"k": 4},
    "dice": {"p": 0.7}, "ash-b": {"percentile": 0.9},  # of tied activations any may be kept
}  # fmt: skip


def outputs(count: int, seed: int, head: Head) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    means = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(0))
    features = (means[labels] + 0.5 * torch.randn(count, WIDTH, generator=generator)).relu()
    return Outputs([str(i) for i in range(count)], labels, features @ head.weight.T + head.bias, features)


@pytest.fixture
def head() -> Head:
    means = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(0)).relu()
    return Head(means, -means.square().sum(dim=1) / 2)


def shipped(score: dict[str, dict[str, Any]], head: Head, folder: Path) -> Score:
    """Fitted, written and read again."""
    train = outputs(80, 1, head) if needs_training_outputs(score) else None
    folder.mkdir(exist_ok=True)
    detectors.write(folder, fit_score(score, 0.05, train, outputs(40, 2, head), head))
    return Score(detectors.read(*(folder / name for name in FILES)), head)


@pytest.mark.parametrize("name", FITTED)
def test_a_shipped_score_is_that_of_the_stage_score(name: str, head: Head, tmp_path: Path) -> None:
    options, test = OPTIONS.get(name, {}), outputs(30, 3, head)
    expected = fit(name, options, outputs(80, 1, head), outputs(40, 2, head), head)
    score = shipped({name: options}, head, tmp_path)
    found, p, parts = score(test.logits, test.features)
    assert found.numpy() == pytest.approx(expected(test), abs=1e-12)
    reference = expected(outputs(40, 2, head))
    by_hand = [(1 + (reference >= value).sum()) / 41 for value in expected(test)]
    assert p.tolist() == pytest.approx(by_hand) and parts.tolist() == p[:, None].tolist()


def test_every_detector_is_shipped_or_refused_by_name(head: Head) -> None:
    for name in set(DETECTORS) - set(FITTED) | {"best"}:
        with pytest.raises(UserError, match=f"{name}'.*expected some of msp"):
            fit_score({name: {}}, 0.05, None, outputs(40, 2, head), head)


def test_a_sum_adds_z_scores_of_validation_images(head: Head, tmp_path: Path) -> None:
    score = shipped({"msp": {}, "rmd++": {"shrinkage": 0.6}}, head, tmp_path)
    test, val, train = (outputs(count, seed, head) for count, seed in ((30, 3), (40, 2), (80, 1)))
    total, expected = score(test.logits, test.features)[0].numpy(), np.zeros(30)
    for name, options in (("msp", {}), ("rmd++", {"shrinkage": 0.6})):
        part = fit(name, options, train, val, head)
        expected += (part(test) - part(val).mean()) / part(val).std()
    assert total == pytest.approx(expected, abs=1e-9)


def test_what_an_unknown_image_is_unknown_for(head: Head, tmp_path: Path) -> None:
    score = shipped({"msp": {}, "rmd++": {"shrinkage": 0.6}}, head, tmp_path)
    assert score.reason([0.01, 0.5]) == "unsure which class"
    assert score.reason([0.5, 0.01]) == "like nothing it was shown"


class Exported(nn.Module):
    def __init__(self, score: Score):
        super().__init__()
        self.score, self.nothing = score, nn.Linear(1, 1)

    def forward(self, logits: Tensor, features: Tensor) -> tuple[Tensor, ...]:
        return self.score(logits, features)


@pytest.mark.parametrize("name", [*FITTED, "sum"])
def test_a_shipped_score_is_the_same_in_a_graph(name: str, head: Head, tmp_path: Path) -> None:
    parts = {"msp": {}, "rmd++": {"shrinkage": 0.6}} if name == "sum" else {name: OPTIONS.get(name, {})}
    score, test = shipped(parts, head, tmp_path), outputs(30, 3, head)
    rows = {0: torch.export.Dim("n", min=1)}
    torch.onnx.export(
        Exported(score).eval(), (test.logits[:3], test.features[:3]), str(tmp_path / "m.onnx"), dynamo=True,
        input_names=["logits", "features"], dynamic_shapes=(rows, rows), external_data=False, verbose=False,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    asked = {"logits": test.logits.numpy(), "features": test.features.numpy()}
    found = session.run(None, {key.name: asked[key.name] for key in session.get_inputs()})
    for own, expected in zip(found, score(test.logits, test.features), strict=True):
        assert own == pytest.approx(expected.detach().numpy(), abs=1e-4)


def test_tensors_of_another_model_are_refused(head: Head, tmp_path: Path) -> None:
    known = fit_score({"rmd++": {}}, 0.05, outputs(80, 1, head), outputs(40, 2, head), head)
    other = {"rmd++": {name: value[:3] for name, value in known.state["rmd++"].items()}}
    with pytest.raises(UserError, match=r"rmd\+\+: .*train the model again"):
        Score(Detector(known.settings, known.id_scores, other), head)
