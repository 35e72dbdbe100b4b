import json
from pathlib import Path

import pytest
import torch

from pipeline.artifacts import detector
from pipeline.artifacts.detector import FILES, Detector, Settings
from pipeline.runtime.errors import UserError

OWN = Detector(Settings(score={"msp": {}}, false_alarms=0.05), torch.tensor([-0.9, -0.75, -0.75]).double())


def read(folder: Path) -> Detector:
    return detector.read(*(folder / name for name in FILES))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    detector.write(tmp_path, OWN)
    found = read(tmp_path)
    assert found.settings == OWN.settings and torch.equal(found.id_scores, OWN.id_scores)
    assert json.loads((tmp_path / "detector.json").read_text()) == {"score": {"msp": {}}, "false_alarms": 0.05}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"score": {"msp": {}}}', "false_alarms: Field required"),
        ('{"score": "best", "false_alarms": 0.1}', "score: Input should be a valid dictionary"),
        ('{"score": {}, "false_alarms": 0.1}', "score: Dictionary should have at least 1 item"),
        ('{"score": {"msp": {}}, "false_alarms": "0.1"}', "false_alarms: Input should be a valid number"),
        ('{"score": {"msp": {}}, "false_alarms": 0.0}', "false_alarms: Input should be greater than 0"),
        ('{"score": {"msp": {}}, "threshold": -0.75, "id_pass_rate": 0.95}', "train the model again"),
        ("[]", "valid dictionary"),
        ("{", "not valid JSON"),
    ],
)
def test_another_form_is_refused_with_the_file_and_the_key(tmp_path: Path, content: str, expected: str) -> None:
    detector.write(tmp_path, OWN)
    (tmp_path / "detector.json").write_text(content)
    with pytest.raises(UserError, match=f"detector.json: .*{expected}"):
        read(tmp_path)
