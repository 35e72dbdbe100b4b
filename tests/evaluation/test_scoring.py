"""Scores of one model from outputs on disk: choices on validation alone, pieces that change nothing, clear refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import roc_auc_score

from pipeline.artifacts import outputs
from pipeline.artifacts.outputs import Head, Outputs
from pipeline.artifacts.roles import Role
from pipeline.evaluation.grid import parts_of
from pipeline.evaluation.metrics import accuracy_percent
from pipeline.evaluation.scoring import score_model
from pipeline.runtime.errors import UserError
from pipeline.score import with_grids

SETS: dict[str, tuple[Role, int, float]] = {  # name -> role, images, distance from ID
    "train": ("id", 300, 0), "val": ("id", 90, 0), "test": ("id", 120, 0), "moon": ("near", 60, 1.5),
    "mars": ("far", 50, 4.0), "hill": ("val-near", 70, 1.5), "sea": ("val-far", 40, 4.0),
}  # fmt: skip


def said(name: str) -> Outputs:
    """Features of three clusters, the farther from them the more OOD, with a linear head."""
    role, count, distance = SETS[name]
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    labels = torch.arange(count) % 3
    features = torch.randn(count, 6, generator=generator) + 4 * torch.eye(6)[labels]
    features += distance * torch.randn(count, 6, generator=generator)
    labels = labels if role == "id" else torch.full((count,), -1)
    logits = features[:, :3] * 0.5
    score = features.norm(dim=1).double().numpy()
    return Outputs([f"{name}-{i}" for i in range(count)], labels, logits, features, {"odin(eps=0.1)": score})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    for name, (role, _, _) in SETS.items():
        outputs.write(outputs.path_of(tmp_path, name, role), [said(name)])
    outputs.write_head(tmp_path / "head.parquet", Head(0.5 * torch.eye(6)[:3], torch.zeros(3)))
    return tmp_path


def test_outputs_come_back_as_they_were_written(model: Path) -> None:
    files = outputs.find(model)
    assert {name: file.role for name, file in files.items()} == {name: role for name, (role, _, _) in SETS.items()}
    for name, file in files.items():
        for found in (file.load(), *file.batches(len(file))):
            expected = said(name)
            assert found.keys == expected.keys and found.labels.equal(expected.labels)
            assert found.logits.equal(expected.logits) and found.features is not None
            assert expected.features is not None and found.features.equal(expected.features)
            np.testing.assert_array_equal(found.scores["odin(eps=0.1)"], expected.scores["odin(eps=0.1)"])


def test_pieces_change_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, head = outputs.find(model), outputs.load_head(model)
    detectors = {"msp": {}, "energy": {}, "knn": {"k": 5}, "mahalanobis": {}, "max-cosine": {}}
    whole = score_model(files, head, detectors)
    batches = outputs.OutputFile.batches
    monkeypatch.setattr(outputs.OutputFile, "batches", lambda self: batches(self, 7))
    pieces = score_model(files, head, detectors)
    names = [*detectors, "odin"]
    np.testing.assert_allclose(pieces.scores[names], whole.scores[names], rtol=1e-5)
    assert pieces.accuracy == pytest.approx(whole.accuracy)


def test_scores_are_a_row_an_image_and_accuracy_is_of_id_sets(model: Path) -> None:
    scored = score_model(outputs.find(model), outputs.load_head(model), {"msp": {}})
    assert dict(scored.scores["set"].value_counts()) == {name: n for name, (_, n, _) in SETS.items() if name != "train"}
    own = scored.scores.set_index("key")
    np.testing.assert_allclose(own.loc[said("moon").keys, "odin"], said("moon").scores["odin(eps=0.1)"])
    test = said("test")
    assert scored.accuracy["test"] == pytest.approx(accuracy_percent(test.logits.numpy(), test.labels.numpy()))
    assert set(scored.accuracy) == {"train", "val", "test"}


def test_arguments_are_chosen_on_validation_sets_and_never_on_test_sets(model: Path) -> None:
    """By hand: the mean of the validation groups' AUROC; and other test images choose nothing else."""
    choices = {"knn": {"k": [1, 5, 50, 250]}}
    scored = score_model(outputs.find(model), outputs.load_head(model), choices)

    def mean(k: int) -> float:
        own = score_model(outputs.find(model), None, {"knn": {"k": k}}).scores
        known = own.loc[own["set"] == "val", "knn"]
        areas = [
            roc_auc_score([0] * len(known) + [1] * len(part), [*known, *part])
            for part in (own.loc[own["set"] == name, "knn"] for name in ("hill", "sea"))
        ]
        return float(np.mean(areas))

    best = max(choices["knn"]["k"], key=mean)
    assert scored.chosen["knn"] == f"knn(k={best})"
    for name in ("moon", "mars"):
        path = outputs.path_of(model, name, SETS[name][0])
        features = torch.zeros(5, 6) + torch.arange(5)[:, None]
        own = {"odin(eps=0.1)": np.arange(5.0)}
        outputs.write(path, [Outputs(list("abcde"), torch.full((5,), -1), features[:, :3], features, own)])
    assert score_model(outputs.find(model), outputs.load_head(model), choices).chosen["knn"] == scored.chosen["knn"]


def test_a_pooled_choice_is_by_all_validation_outliers_in_one_set(model: Path) -> None:
    ks = [1, 5, 50, 250]

    def area(k: int) -> float:
        own = score_model(outputs.find(model), None, {"knn": {"k": k}}).scores
        known, parts = own.loc[own["set"] == "val", "knn"], own.loc[own["set"].isin(["hill", "sea"]), "knn"]
        return float(roc_auc_score([0] * len(known) + [1] * len(parts), [*known, *parts]))

    chosen = score_model(outputs.find(model), None, {"knn": {"k": ks}}, pooled=True).chosen
    assert chosen["knn"] == f"knn(k={max(ks, key=area)})"


def test_openood_s_grid_is_searched_where_no_argument_is_named(model: Path) -> None:
    files = outputs.find(model)
    detectors = {"knn": {}, "gen": {"gamma": 0.3}, "msp": {}}
    assert with_grids(detectors, "folder", files) is detectors
    found = with_grids(detectors, "cifar10", files)
    assert found == {"knn": {"k": [50, 100, 200]}, "gen": {"gamma": 0.3}, "msp": {}}  # of 300 training images
    assert score_model(files, None, found, pooled=True).chosen["knn"] in {f"knn(k={k})" for k in (50, 100, 200)}


def test_a_choice_without_validation_sets_is_refused(model: Path) -> None:
    for name in ("hill", "sea"):
        outputs.path_of(model, name, SETS[name][0]).unlink()
    with pytest.raises(UserError, match=r"score.detectors.knn: several values and no OOD validation set.*val_near"):
        score_model(outputs.find(model), outputs.load_head(model), {"knn": {"k": [1, 5]}})


def test_a_stranger_s_logits_are_enough(tmp_path: Path) -> None:
    """Written by pandas: no features, no head, no training set, float64 logits."""
    random = np.random.default_rng(0)
    for path, count, scale in (("test.parquet", 80, 4.0), ("near/moon.parquet", 30, 1.0)):
        logits = scale * random.normal(size=(count, 4))
        (tmp_path / path).parent.mkdir(exist_ok=True)
        label = logits.argmax(axis=1) if path == "test.parquet" else -1
        pd.DataFrame({"key": range(count), "label": label, "logits": list(logits)}).to_parquet(tmp_path / path)
    scored = score_model(outputs.find(tmp_path), None, {"msp": {}, "energy": {}, "gen": {}})
    assert scored.accuracy == {"test": 100.0} and len(scored.scores) == 110
    own = scored.scores.groupby("set")["msp"].mean()
    assert own["moon"] > own["test"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("knn", "train.parquet"),
        ("react", "head.parquet"),
        ("temperature", "val.parquet"),
        ("max-cosine", "head.parquet"),
    ],
)
def test_what_a_detector_lacks_is_named(tmp_path: Path, name: str, words: str) -> None:
    own = said("test")
    outputs.write(tmp_path / "test.parquet", [Outputs(own.keys, own.labels, own.logits, None)])
    with pytest.raises(UserError, match=f"{name}.*{words}"):
        score_model(outputs.find(tmp_path), None, {name: {}})


def test_constant_scores_of_id_images_are_refused_and_those_of_an_ood_set_are_not(model: Path) -> None:
    flat = Outputs(list("abc"), torch.full((3,), -1), torch.ones(3, 3), torch.ones(3, 6), {"odin(eps=0.1)": np.ones(3)})
    outputs.write(model / "near/moon.parquet", [flat])
    scored = score_model(outputs.find(model), None, {"msp": {}}).scores
    assert scored.loc[scored["set"] == "moon", "msp"].nunique() == 1
    outputs.write(model / "test.parquet", [replace(flat, labels=torch.zeros(3, dtype=torch.int64))])
    with pytest.raises(UserError, match=r"test.parquet: msp: all scores the same"):
        score_model(outputs.find(model), None, {"msp": {}})


@pytest.mark.parametrize("name", ["train", "val", "moon", "hill"])
def test_outputs_of_another_number_of_classes_are_named(model: Path, name: str) -> None:
    own = said(name)
    narrow = replace(own, logits=own.logits[:, :2], labels=own.labels.clamp(max=1))
    path = outputs.path_of(model, name, SETS[name][0])
    outputs.write(path, [narrow])
    with pytest.raises(UserError, match=f"{path}: logits of 2 classes, expected 3 as in test.parquet"):
        score_model(outputs.find(model), outputs.load_head(model), {"msp": {}, "knn": {"k": [3, 5]}})


BAD = {
    "no column": (lambda table: table.drop_columns(["logits"]), "no column logits"),
    "no rows": (lambda table: table.slice(0, 0), "no rows"),
    "ragged": (
        lambda table: table.set_column(
            2, "logits", pa.array([[1.0]] * (len(table) - 1) + [[1.0, 2.0]], pa.list_(pa.float32()))
        ),
        "logits of lengths",
    ),
    "numbers in place of lists": (lambda table: table.set_column(2, "logits", table["label"]), "expected lists"),
    "nan": (
        lambda table: table.set_column(2, "logits", pa.array([[np.nan] * 3] * len(table), pa.list_(pa.float32()))),
        "NaN",
    ),
    "texts for labels": (
        lambda table: table.set_column(1, "label", pa.array(["cat"] * len(table))), "expected numbers",
    ),
    "scores not finite": (
        lambda table: table.set_column(4, "odin(eps=0.1)", pa.array([float("inf")] * len(table))), "not finite",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_outputs_that_do_not_hold_are_named(model: Path, fault: str) -> None:
    change, words = BAD[fault]
    path = model / "test.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(UserError, match=f"test.parquet: .*{words}"):
        score_model(outputs.find(model), None, {"msp": {}})


def test_scores_that_came_with_the_outputs_are_in_every_set_and_go_by_no_detector_s_name(model: Path) -> None:
    with pytest.raises(UserError, match=r"score.detectors: odin is a column of the outputs too"):
        score_model(outputs.find(model), None, {"odin": {}})
    path = model / "near/moon.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["odin(eps=0.1)"]), path)
    with pytest.raises(UserError, match=r"moon.parquet: no column 'odin\(eps=0.1\)', which test.parquet has"):
        score_model(outputs.find(model), None, {"msp": {}})


def test_missing_and_unreadable_outputs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"test.parquet: not found"):
        outputs.find(tmp_path)
    (tmp_path / "test.parquet").write_bytes(b"PAR1, not really")
    with pytest.raises(UserError, match=r"test.parquet: not readable"):
        outputs.find(tmp_path)
    (tmp_path / "near").mkdir()
    (tmp_path / "far").mkdir()
    own = said("test")
    for path in ("test.parquet", "near/moon.parquet", "far/moon.parquet"):
        outputs.write(tmp_path / path, [own])
    with pytest.raises(UserError, match="two sets of one name, \\['moon'\\]"):
        outputs.find(tmp_path)


def test_a_sum_adds_up_the_z_scores_of_its_parts_as_they_were_chosen(model: Path) -> None:
    files, head = outputs.find(model), outputs.load_head(model)
    detectors: dict[str, dict[str, object]] = {"knn": {"k": [1, 5]}, "mahalanobis++": {}, "mahalanobis+++knn": {}}
    found = score_model(files, head, detectors)
    val, expected = found.scores[found.scores["set"] == "val"], 0
    for part in ("knn", "mahalanobis++"):
        expected += (found.scores[part] - val[part].mean()) / val[part].std(ddof=0)
    np.testing.assert_allclose(found.scores["mahalanobis+++knn"], expected, atol=1e-9)
    assert found.chosen["mahalanobis+++knn"] == "mahalanobis+++knn()"
    (model / "val.parquet").unlink()
    with pytest.raises(UserError, match=r"mahalanobis\+\+\+knn needs val.parquet"):
        score_model(outputs.find(model), head, detectors | {"knn": {"k": 1}})


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("msp+rmd++", ["msp", "rmd++"]), ("rmd+++msp", ["rmd++", "msp"]), ("rmd+rmd++", ["rmd", "rmd++"]),
        ("rmd++", []), ("msp", []), ("msp+best", []), ("msp+rmd+knn", ["msp", "rmd", "knn"]), ("msp+", []),
    ],
)  # fmt: skip
def test_the_parts_of_a_sum_by_its_name(name: str, parts: list[str]) -> None:
    assert parts_of(name, ["msp", "rmd", "rmd++", "knn"]) == parts
