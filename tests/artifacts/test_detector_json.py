import json
from pathlib import Path

import pytest

from pipeline.artifacts import detector_json
from pipeline.artifacts.detector_json import Detector
from pipeline.runtime.errors import UserError

OWN = Detector(score="msp", threshold=-0.75, id_pass_rate=0.95)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    detector_json.write(tmp_path, OWN)
    assert detector_json.read(tmp_path / "detector.json") == OWN
    assert json.loads((tmp_path / "detector.json").read_text()) == {
        "score": "msp", "threshold": -0.75, "id_pass_rate": 0.95,
    }  # fmt: skip


def test_the_old_name_of_the_pass_rate_is_read(tmp_path: Path) -> None:
    (tmp_path / "detector.json").write_text('{"score": "msp", "threshold": -0.75, "id_true_positive_rate": 0.95}')
    assert detector_json.read(tmp_path / "detector.json") == OWN


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"score": "msp", "threshold": -0.75}', "id_pass_rate: Field required"),
        ('{"score": "best", "threshold": 0.0, "id_pass_rate": 0.9}', "score: Input should be 'msp' or 'max-cosine'"),
        ('{"score": "msp", "threshold": "0", "id_pass_rate": 0.9}', "threshold: Input should be a valid number"),
        ("[]", "valid dictionary"),
        ("{", "not valid JSON"),
    ],
)
def test_another_form_is_refused_with_the_file_and_the_key(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "detector.json").write_text(content)
    with pytest.raises(UserError, match=f"detector.json: .*{expected}"):
        detector_json.read(tmp_path / "detector.json")
