"""What a dataset says of itself: its form is checked, an old one is refused, its audit is read by fields."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts import dataset_json
from pipeline.artifacts.cards import dataset_card
from pipeline.reporting import tables
from pipeline.runtime.errors import UserError

DECODER = {"kind": "separation", "method": None, "reference": "id", "auroc": {"sharpness": 80.04, "probe": 95.0}}
NOISE = {"kind": "separation", "method": "noise", "reference": "decoded", "auroc": {"sharpness": 99.5, "probe": 100.0}}
DIVERSITY = {"kind": "diversity", "method": "noise", "nearest": 31.26, "duplicates": 3}
ABOUT = {
    "schema_version": 2, "name": "controls", "licence": "other", "shards": [],
    "methods": {"noise": {"strength": "0, for it has no parents", "packed": 5, "candidates": 5, "rejected": {}}},
    "id": {"classes": ["a", "b"], "count": 9, "shape": [1, 8, 8]}, "audit": [DECODER, NOISE, DIVERSITY],
}  # fmt: skip


def written(folder: Path, about: Any) -> Path:
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder


def test_a_sound_one_is_given_as_it_is(tmp_path: Path, project: Path) -> None:
    assert dataset_json.read(written(tmp_path, ABOUT)) == ABOUT
    without = {name: value for name, value in ABOUT.items() if name != "audit"}
    assert dataset_json.read(written(tmp_path, without)) == without  # other tools need not measure it
    for name, methods in (("outliers", 5), ("controls", 9)):
        audit = dataset_json.read(project / "data" / name)["audit"]
        assert [row["kind"] for row in audit] == ["separation", *["separation", "separation", "diversity"] * methods]


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ([], "dataset.json: found list, expected a JSON object; get the file again"),
        (ABOUT | {"schema_version": 1}, "schema 1, expected 2; make it again with `dvc repro shards`"),
        (ABOUT | {"audit": {"id against noise": {"probe": 50.0}}}, "audit: Input should be a valid list"),
        (ABOUT | {"audit": [DECODER | {"kind": "prose"}]}, "audit.0: Input tag 'prose'"),
        (ABOUT | {"audit": [DECODER | {"reference": "noise"}]}, "audit.0.separation.reference: Input should be 'id'"),
        (ABOUT | {"audit": [DECODER | {"auroc": {"probe": 101.0}}]}, "auroc.probe: Input should be less than"),
        (ABOUT | {"audit": [DIVERSITY | {"duplicates": -1}]}, "duplicates: Input should be greater than"),
    ],
)
def test_one_of_another_form_is_refused(tmp_path: Path, about: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        dataset_json.read(written(tmp_path, about))


def test_the_card_says_what_was_compared() -> None:
    card = dataset_card(ABOUT)
    assert "| | sharpness | probe |\n| --- | --- | --- |\n| id against decoded id | 80 | 95 |\n" in card
    assert "| decoded id against noise | 100 | 100 |" in card
    line = "Diversity of noise: median distance to the nearest other 31.3 standard deviations, 3 with exactly the"
    assert line in card
    assert "Not measured for this set." in dataset_card(ABOUT | {"audit": [DIVERSITY]})


def test_the_report_shows_equal_rows_of_two_datasets_once() -> None:
    other = NOISE | {"method": "cut-mix"}
    frame = tables.audit_frame([ABOUT, ABOUT | {"audit": [DECODER, other]}, {}])
    names = ["id against decoded id", "decoded id against noise", "decoded id against cut-mix"]
    assert frame.to_numpy().tolist() == [
        [name, *values] for name, values in zip(names, (["80.0", "95.0"], *[["99.5", "100.0"]] * 2), strict=True)
    ]
    assert tables.audit_frame([{"audit": [DIVERSITY]}, {}]).empty


def test_the_card_says_what_strength_means_for_each_method() -> None:
    counts = ABOUT["methods"]["noise"]
    said = {"mixup": counts | {"strength": "share of parent a"}, "boundary+contrast": counts | {"strength": "sigma of"}}
    about = ABOUT | {"methods": said | {"theirs": {"packed": 5, "candidates": 5, "rejected": {}}}}
    card = dataset_card(about)
    assert "- `strength` of mixup: share of parent a." in card and "of boundary+contrast: sigma of." in card
    assert "`strength` of theirs" not in card
